"""What a row asks for: the messages to send, turn by turn.

The shapes people have, one rule for all: a text is a single turn; a list of texts are turns; a list of messages is a
conversation, which is replayed, continued or judged as the job's mode says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from rayflow.batch.judging import judged, question
from rayflow.batch.rows import BadRow, InputRow
from rayflow.batch.spec import JobSpec, digest
from rayflow.chat import Message, ModelParams
from rayflow.errors import ValidationError

INPUT_FIELDS = ("prompt", "message", "input", "text", "turns", "messages")
_SYSTEM_ROLES = {"system", "developer"}
_ROLES = {*_SYSTEM_ROLES, "user", "assistant", "tool", "function"}
_PARAMS = frozenset(ModelParams.__struct_fields__)


class Task(msgspec.Struct, frozen=True):
    """A row that can be run. `turns`: what is sent, one after the other. `about`: where it comes from."""

    about: InputRow
    key: str
    turns: list[list[Message]]
    params: ModelParams = ModelParams()
    agent: str = ""
    system_prompt: str = ""
    instructions: str = ""

    @property
    def ordinal(self) -> int:
        return self.about.ordinal

    @property
    def texts(self) -> list[str]:
        """The last message of each turn."""
        return [turn[-1].text for turn in self.turns]


class BadTask(msgspec.Struct, frozen=True):
    """A row that cannot be run. It gets its row of the results like any other."""

    about: InputRow
    key: str
    slug: str
    message: str

    @property
    def ordinal(self) -> int:
        return self.about.ordinal


class Tasks:
    """Makes tasks of the rows of one job."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self._fields = spec.inputs.fields or INPUT_FIELDS
        self._encoder = msgspec.json.Encoder(order="deterministic", enc_hook=str)
        self._params = judged(spec.params, spec.judging) if spec.judging else spec.params
        deciding = (spec.version, spec.mode, spec.agent, spec.params, spec.row_params, spec.system_prompt, spec.judging)
        self._salt = digest(deciding).encode()

    def key(self, row: InputRow) -> str:
        """What the row is known by: its user's id, or a hash of its content and of what decides its answer."""
        if row.id is not None:
            return row.id
        return hashlib.blake2b(self._encoder.encode(row.value), digest_size=16, key=self._salt).hexdigest()

    def task(self, row: InputRow) -> Task | BadTask:
        key = self.key(row)
        about = msgspec.structs.replace(row, value=None)
        if isinstance(row.value, BadRow):
            return BadTask(about, key, row.value.slug, row.value.message)
        try:
            return self._task(about, key, row.value)
        except ValidationError as error:
            return BadTask(about, key, error.slug, error.message)

    def _task(self, about: InputRow, key: str, value: object) -> Task:
        if not isinstance(value, dict):
            raise ValidationError(f"expected an object, got {_kind(value)}")
        spec = self._spec
        messages = conversation(value, self._fields)
        head = 0
        while head < len(messages) and messages[head].role in _SYSTEM_ROLES:
            head += 1
        own = "\n\n".join(message.text for message in messages[:head])
        system_prompt = spec.system_prompt if spec.adds_instructions else own or spec.system_prompt
        said = messages[head:]
        match spec.mode:
            case "replay":
                if any(message.role in _SYSTEM_ROLES for message in said):
                    raise ValidationError("a system message can only be replayed at the head of a conversation")
                turns = [[message] for message in said if message.role == "user"]
            case "prompt":
                turns = [said] if said else []
                if said and said[-1].role not in ("user", "tool"):
                    raise ValidationError(f"the last message is the {said[-1].role}'s: there is nothing to answer")
            case "judge":
                if spec.judging is None:
                    raise ValidationError("a job that judges needs an instruction")
                turns = [[Message("user", question(spec.judging, messages))]] if said else []
                system_prompt = spec.system_prompt
        if not turns:
            raise ValidationError("it has no user turn: there is nothing to send")
        params, agent = self._params, spec.agent
        if spec.row_params:
            params, agent = _params(value).over(params), _agent(value) or agent
        if agent == spec.workflow:
            agent = ""  # as a model's name, that of the workflow is all of it
        return Task(about, key, turns, params, agent, system_prompt, own if spec.adds_instructions else "")


def conversation(value: dict[str, Any], fields: Sequence[str] = INPUT_FIELDS) -> list[Message]:
    """The messages of a row. Raises `ValidationError` where it has none that could be sent."""
    name = next((name for name in fields if value.get(name) is not None), None)
    if name is None:
        found = ", ".join(repr(key) for key in list(value)[:20]) or "nothing"
        raise ValidationError(f"no field {' or '.join(fields)} in it; it has {found}")
    match value[name]:
        case str() as text:
            return [Message("user", _text(text, name))]
        case [str(), *_] as texts:
            return [Message("user", _text(text, f"{name}[{index}]")) for index, text in enumerate(texts)]
        case [dict(), *_] as messages:
            return [_message(message, f"{name}[{index}]") for index, message in enumerate(messages)]
        case []:
            raise ValidationError(f"{name} is empty: there is nothing to send")
        case other:
            raise ValidationError(f"{name} must be a text, a list of texts or a list of messages, got {_kind(other)}")


def _message(message: object, where: str) -> Message:
    if not isinstance(message, dict):
        raise ValidationError(f"{where} must be a message with role and content, got {_kind(message)}")
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise ValidationError(f"{where}.role must be one of {', '.join(sorted(_ROLES))}, got {role!r}")
    if role in ("user", *_SYSTEM_ROLES) and not isinstance(message.get("content"), list):
        return Message(role, _text(message.get("content"), f"{where}.content"))
    try:
        return msgspec.convert(message, Message)
    except msgspec.ValidationError as error:
        raise ValidationError(f"{where}: {error}") from error


def _params(value: dict[str, Any]) -> ModelParams:
    try:
        return msgspec.convert({name: value[name] for name in _PARAMS & value.keys()}, ModelParams)
    except msgspec.ValidationError as error:
        raise ValidationError(str(error)) from error


def _agent(value: dict[str, Any]) -> str:
    agent = value.get("agent", "")
    if not isinstance(agent, str):
        raise ValidationError(f"agent must be a text, got {_kind(agent)}")
    return agent


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ValidationError(f"{where} must be a text, got {_kind(value)}")
    if not value.strip():
        raise ValidationError(f"{where} is blank: there is nothing to send")
    return value


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else f"a {type(value).__name__}")
