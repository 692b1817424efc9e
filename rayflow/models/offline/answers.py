"""The text of an answer: sentences found, put in order, and said to be what they are.

Nothing is made up. An answer is a quotation with its source named, a rearrangement of what was said, or the plain
statement that nothing fits. `seed` chooses between equal phrasings; the same conversation and seed give the same
text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from zlib import crc32

import msgspec

from rayflow.language.sentences import Sentence, sentences
from rayflow.language.words import content_words
from rayflow.models.offline.conversation import Conversation
from rayflow.models.offline.intents import Intent, intent
from rayflow.models.offline.knowledge import Knowledge
from rayflow.models.offline.person import second_person
from rayflow.models.offline.ranking import Index, Passage, Query, Ranked, rank

SELF = "I am rayflow's offline model: there is no language model in me."
HOW = "I answer only with sentences from our conversation, my instructions and my knowledge file"
MAX_SENTENCES = 3
MAX_SUMMARY_TURNS = 8

_REPEATED = "My previous answer was: "
_LEAD = {
    "user": ("You said: ", "You told me: ", "Earlier you said: "),
    "assistant": ("I said earlier: ", "Earlier I said: ", "As I said: "),
    "instructions": ("My instructions say: ", "From my instructions: ", "According to my instructions: "),
    "message": ("Your message says: ", "From your message: ", "You write: "),
}
_OWN = re.compile(
    "|".join(
        [
            *(re.escape(lead.strip()) for leads in _LEAD.values() for lead in leads),
            "I am rayflow's offline",
            _REPEATED.strip(),
        ]
    )
)
_SHORT = re.compile(r"\b(?:short|shorter|shorten|brief|briefly|concise|summari[sz]e|in one sentence|fewer)\b", re.I)
_LIST = re.compile(r"\b(?:bullet|bullets|list|outline|points)\b", re.I)


def answer(conversation: Conversation, knowledge: Knowledge, seed: int | None) -> str:
    """The offline model's answer to a conversation."""
    if conversation.tool_results:
        return " ".join(_tool_result(name, content) for name, content in conversation.tool_results)
    asked = conversation.asked
    match intent(asked):
        case Intent.EMPTY:
            return f"Your message holds no words. {SELF} {HOW}."
        case Intent.GREETING:
            return f"{_pick(('Hello!', 'Hi!', 'Good day!'), seed, asked)} {SELF} {HOW}. What would you like to find?"
        case Intent.THANKS:
            return _pick(("You are welcome.", "Glad to help.", "With pleasure."), seed, asked)
        case Intent.IDENTITY:
            return f"{SELF} {HOW}, and I call a declared tool when you name it."
        case Intent.SUMMARY:
            return _summary(conversation)
        case Intent.PREVIOUS_MESSAGE if said := conversation.last("user"):
            return f'Your previous message was: "{said}"'
        case Intent.PREVIOUS_ANSWER if said := conversation.last("assistant"):
            return _again(said, asked)
        case kind:
            return _found(conversation, knowledge, seed) or _nothing(asked, kind)


def _found(conversation: Conversation, knowledge: Knowledge, seed: int | None) -> str:
    """The sentences that answer the question, each group under the name of its source; empty where there are none."""
    question, given = _question_and_given(conversation.asked)
    query = Query.of(question)
    if not query.groups:
        return ""
    instructions = _instructions(conversation.instructions)
    said = _said(conversation, given)
    passages = [*knowledge.index.candidates(query), *instructions.candidates(query), *said]
    ranked = rank(query, passages, knowledge.index.size + instructions.size + len(said))
    chosen = _choose(ranked, 1 if query.kinds else MAX_SENTENCES)
    texts: dict[str, list[str]] = {}
    for passage in chosen:
        text = passage.sentence.text
        texts.setdefault(passage.source, []).append(
            second_person(text) if passage.source in ("user", "message") else text
        )
    return " ".join(_lead(source, knowledge, seed, question) + " ".join(found) for source, found in texts.items())


def _choose(ranked: list[Ranked], limit: int) -> list[Passage]:
    """The best passages without repetitions, those of one source in their original order."""
    chosen: list[Passage] = []
    for score, passage in ranked:
        if len(chosen) == limit or score < 0.6 * ranked[0].score:
            break
        if not any(passage.sentence.stems <= other.sentence.stems for other in chosen):
            chosen.append(passage)
    sources = list(dict.fromkeys(passage.source for passage in chosen))
    return sorted(chosen, key=lambda passage: (sources.index(passage.source), passage.order))


def _said(conversation: Conversation, given: list[Sentence]) -> list[Passage]:
    """What the conversation offers: the user's statements count most, later ones more than earlier ones; questions
    count little, and the assistant's own quotations say nothing new."""
    passages = [Passage(sentence, "message", 1.0, 0) for sentence in given]
    turns = len(conversation.earlier)
    for number, (role, text) in enumerate(conversation.earlier):
        recency = 1.0 + 0.2 * (number + 1) / turns
        for sentence in sentences(text):
            if role == "user":
                passages.append(Passage(sentence, role, recency * (0.2 if sentence.question else 1.0), number))
            elif not _OWN.search(sentence.text):
                passages.append(Passage(sentence, role, 0.5 * recency, number))
    return passages


def _question_and_given(asked: str) -> tuple[str, list[Sentence]]:
    """A long message often brings the text to answer from: its questions are the query, the rest may answer them."""
    parts = sentences(asked)
    questions = [part for part in parts if part.question]
    if len(parts) < 3 or not questions or len(questions) == len(parts):
        return asked, []
    return " ".join(part.text for part in questions), [part for part in parts if not part.question]


@lru_cache(maxsize=256)
def _instructions(text: str) -> Index:
    return Index([Passage(sentence, "instructions", 0.9, n) for n, sentence in enumerate(sentences(text))])


def _summary(conversation: Conversation) -> str:
    turns = [(role, text) for role, text in conversation.earlier if not (role == "assistant" and _OWN.match(text))]
    if not turns:
        return "There is nothing to summarise yet: this is the first message of our conversation."
    lines = []
    for role, text in turns[-MAX_SUMMARY_TURNS:]:
        first = sentences(text)[0].text
        lines.append(f"- You said: {second_person(first)}" if role == "user" else f"- I answered: {first}")
    return "Our conversation so far:\n" + "\n".join(lines)


def _again(said: str, asked: str) -> str:
    """The previous answer once more, shortened or as a list where that was asked for."""
    said = said.removeprefix(_REPEATED).split("\n\n(", 1)[0]
    parts = [part.text for part in sentences(said)]
    if _LIST.search(asked):
        return "\n".join(f"- {part}" for part in parts)
    if _SHORT.search(asked):
        return " ".join(parts[: max(1, len(parts) // 2)])
    return f"{_REPEATED}{said}\n\n(I can repeat, shorten or list it; to rewrite it takes a language model.)"


def _nothing(asked: str, kind: Intent) -> str:
    topics = list(dict.fromkeys(content_words(asked)))[:6]
    if kind is Intent.STATEMENT:
        noted = second_person(sentences(asked)[0].text)
        return f"Noted: {noted.rstrip('.')}. {SELF} Ask me about it later and I will find it."
    understood = f" I understood these words: {', '.join(topics)}." if topics else ""
    return f"I found nothing that answers this.{understood} {SELF} {HOW}."


def _tool_result(name: str, content: str) -> str:
    """A tool's result in a sentence: fields of a JSON object are listed, other text is quoted."""
    try:
        value = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return f"The tool {name} answered: {content or 'nothing'}"
    if isinstance(value, dict):
        return (
            f"The tool {name} answered: " + ", ".join(f"{key} is {_plain(part)}" for key, part in value.items()) + "."
        )
    return f"The tool {name} answered: {_plain(value)}."


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(_plain(part) for part in value)
    return msgspec.json.encode(value).decode()


def _lead(source: str, knowledge: Knowledge, seed: int | None, question: str) -> str:
    return f"From {knowledge.name}: " if source == "knowledge" else _pick(_LEAD[source], seed, question)


def _pick(variants: tuple[str, ...], seed: int | None, text: str) -> str:
    return variants[0] if seed is None else variants[crc32(f"{seed}:{text}".encode()) % len(variants)]
