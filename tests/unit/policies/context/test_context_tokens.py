"""The estimate of tokens keeps its stated bound against true counts, and never costs much."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.data import shared

from rayflow.chat import FunctionCall, Message, ToolCall
from rayflow.policies.context.tokens import PER_ATTACHMENT, PER_MESSAGE, cut, estimate, message_tokens, most_tokens

COUNTS = json.loads(Path(__file__).with_name("token_counts.json").read_text())
"""True counts, made with rs-bpe 0.1.0, of the first 60 texts of 80 characters or more in each of these files."""

LANGUAGES = {
    "German": (
        "Der schnelle braune Fuchs springt über den faulen Hund. Die Bestellung wurde am "
        "Donnerstag verschickt, aber die Lieferadresse war leider falsch angegeben; bitte "
        "überprüfen Sie Ihre Kundendaten.",
        39,
    ),
    "French": (
        "Bonjour, je voudrais savoir où se trouve ma commande numéro 48213. Elle devait arriver "
        "jeudi dernier, mais je n'ai toujours rien reçu et le service après-vente ne répond pas.",
        38,
    ),
    "Spanish": (
        "Hola, necesito cambiar la dirección de envío de mi pedido porque me he mudado a otra "
        "ciudad. ¿Podrían decirme también cuánto cuesta el envío urgente y cuándo llegaría?",
        36,
    ),
    "Russian": (
        "Здравствуйте! Мой заказ должен был прийти в понедельник, но до сих пор не доставлен. "
        "Подскажите, пожалуйста, где он находится и когда его ждать.",
        36,
    ),
    "Chinese": (
        "你好,我的订单应该在星期一送到,但是到现在还没有收到。请问现在在哪里,什么时候可以送到?我还想更改送货地址。",
        37,
    ),
    "Japanese": (
        "こんにちは。注文した商品が月曜日に届くはずでしたが、まだ届いていません。現在どこにあるのか、いつ届く"
        "のか教えていただけますか。",
        42,
    ),
    "Korean": (
        "안녕하세요. 월요일에 도착해야 하는 주문이 아직 도착하지 않았습니다. "
        "지금 어디에 있는지, 언제 받을 수 있는지 알려 주세요.",
        33,
    ),
    "Arabic": (
        "مرحبا، كان من المفترض أن يصل طلبي يوم الاثنين لكنه لم يصل بعد. هل يمكنكم إخباري أين هو الآن ومتى سيصل؟",
        32,
    ),
    "Hindi": (
        "नमस्ते, मेरा ऑर्डर सोमवार को आना था लेकिन अभी तक नहीं पहुँचा है। कृपया बताइए कि वह अभी कहाँ है और कब तक पहुँचेगा।",
        40,
    ),
    "Greek": (
        "Γεια σας, η παραγγελία μου έπρεπε να φτάσει τη Δευτέρα αλλά δεν έχει έρθει ακόμη. "
        "Μπορείτε να μου πείτε πού βρίσκεται;",
        42,
    ),
    "Hebrew": (
        "שלום, ההזמנה שלי הייתה אמורה להגיע ביום שני אבל היא עדיין לא הגיעה. תוכלו לומר לי איפה היא נמצאת ומתי תגיע?",
        33,
    ),
    "Polish": (
        "Dzień dobry, moje zamówienie miało dotrzeć w poniedziałek, ale jeszcze go nie otrzymałem. "
        "Czy mogą Państwo powiedzieć, gdzie się znajduje?",
        40,
    ),
}
"""Texts and their tokens in o200k_base."""


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if len(value) >= 80 else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in texts(part)]


@pytest.mark.parametrize("name", COUNTS)
def test_public_texts_are_estimated_within_the_bound(name: str) -> None:
    path = shared("data", *name.split("/"))
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        found = list(islice((text for line in lines for text in texts(json.loads(line))), 60))
    true = COUNTS[name]["o200k_base"]
    assert len(found) == len(true)
    ratios = [estimate(text) / count for text, count in zip(found, true, strict=True)]
    assert 0.75 <= min(ratios) <= max(ratios) <= 1.5
    assert 0.85 <= sum(map(estimate, found)) / sum(true) <= 1.15


@pytest.mark.parametrize("language", LANGUAGES)
def test_other_languages_are_hardly_ever_underestimated(language: str) -> None:
    text, count = LANGUAGES[language]
    assert 0.95 * count <= estimate(text) <= 1.8 * count


@given(st.text(max_size=300))
def test_the_cheap_upper_bound_is_one(text: str) -> None:
    message = Message("user", text)
    assert message_tokens(message) <= most_tokens(message)


def test_a_message_costs_more_than_its_text() -> None:
    call = ToolCall("c1", FunctionCall("weather", '{"city": "Bergen"}'))
    assert message_tokens(Message("assistant", None, tool_calls=[call])) > 2 * PER_MESSAGE
    image = {"type": "image_url", "image_url": {"url": "data:..."}}
    parts = Message("user", [{"type": "text", "text": "What is this?"}, image])
    assert message_tokens(parts) == PER_MESSAGE + estimate("What is this?") + PER_ATTACHMENT


def test_of_a_very_long_text_only_a_part_is_counted() -> None:
    text = "some words of a long text " * 10_000
    assert estimate(text) == pytest.approx(len(text.split()), rel=0.01)


@given(st.text(alphabet="ab c.\n", max_size=4000), st.integers(0, 300))
def test_a_cut_text_is_within_its_limit_and_a_short_one_is_untouched(text: str, limit: int) -> None:
    shown = cut(text, limit)
    assert estimate(shown) <= max(limit, 0)
    if estimate(text) <= limit:
        assert shown == text
