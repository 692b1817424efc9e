"""Sessions as JSON lines, out and in: a line that says what it is, then each session with its turns and its records
after it. The value of a record is in base64.

    {"rayflow_sessions":2}
    {"session":{"session_id":"s","tenant":"acme",...}}
    {"turn":{"seq":1,"message":{"role":"user","content":"hi"},...}}
    {"record":{"kind":"state","name":"order","value":"eyJpZCI6N30=","version":3,...}}

Version 1 had no records. Neither direction holds more than a page of a session in memory. An import that was cut is
simply made again: sessions that are there already are gone on with where they stop, and never overwritten.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field

import msgspec

from rayflow.app.shards import PAGE, Shards
from rayflow.errors import Conflict, NotFound, ValidationError
from rayflow.ids import is_safe_id
from rayflow.messages import GetSession, ImportRecords, ImportSession, OwnedRecord, Record, SessionInfo, Turn
from rayflow.messages.records import MAX_READ_BYTES, of_session

VERSION = 2


class Line(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Has one of these."""

    rayflow_sessions: int | None = None
    session: SessionInfo | None = None
    turn: Turn | None = None
    record: Record | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


@dataclass
class Imported:
    """What an import came to. `refused`: sessions that were left as they are, and why. `short`: sessions whose last
    turns are not in the file."""

    sessions: int = 0
    turns: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    short: list[str] = field(default_factory=list)


async def exported(shards: Shards, sessions: AsyncGenerator[SessionInfo, None]) -> AsyncGenerator[bytes, None]:
    """The lines of these sessions. One that is deleted meanwhile is left out."""
    yield _encode(Line(rayflow_sessions=VERSION)) + b"\n"
    async for each in sessions:
        try:
            async for lines in _pages(shards, each):
                yield lines
        except NotFound:
            continue


async def _pages(shards: Shards, of: SessionInfo) -> AsyncGenerator[bytes, None]:
    first = True
    async for page in shards.history(of.tenant, of.session_id):
        lines = [Line(turn=turn) for turn in page.turns]
        if first:
            lines.insert(0, Line(session=page.info))
            first = False
        yield b"".join(_encode(line) + b"\n" for line in lines)
    async for owned in shards.every_record(of.tenant, of_session(of.session_id)):
        yield _encode(Line(record=owned.record)) + b"\n"


async def copied(shards: Shards, sessions: AsyncGenerator[SessionInfo, None], to: Shards) -> Imported:
    """Bring these sessions to other stores, without a file in between."""
    done = Imported()
    async for each in sessions:
        writer = _Writer(to, done)
        async for page in shards.history(each.tenant, each.session_id):
            if writer.info is None:
                await writer.begin(page.info)
            for turn in page.turns:
                await writer.add(turn)
        await writer.end()
    return done


async def imported(shards: Shards, lines: Iterable[bytes]) -> Imported:
    """Make the sessions of an export. Raises `ValidationError` for a line that none has; what came before it is there,
    but for the last page."""
    done = Imported()
    writer = _Writer(shards, done)
    for number, text in enumerate(lines, 1):
        line = _line(text, number)
        if (number == 1) != (line.rayflow_sessions is not None):
            raise ValidationError(f"line {number}: expected an export of rayflow sessions", line=number)
        if line.rayflow_sessions is not None and not 1 <= line.rayflow_sessions <= VERSION:
            raise ValidationError(
                f"this export has version {line.rayflow_sessions}, this rayflow knows up to {VERSION}: upgrade rayflow",
                version=line.rayflow_sessions,
            )
        if line.session is not None:
            await writer.end()
            await writer.begin(line.session)
        elif line.turn is not None:
            if writer.info is None:
                raise ValidationError(f"line {number}: a turn that belongs to no session", line=number)
            await writer.add(line.turn)
        elif line.record is not None:
            if writer.info is None:
                raise ValidationError(f"line {number}: a record that belongs to no session", line=number)
            await writer.keep(line.record)
    await writer.end()
    return done


def _line(text: bytes, number: int) -> Line:
    try:
        line = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValidationError(f"line {number} is no line of an export: {error}", line=number) from error
    if line.session is not None and not is_safe_id(line.session.session_id):
        raise ValidationError(f"line {number}: {line.session.session_id!r:.80} cannot be a session's id", line=number)
    return line


class RecordWriter:
    """Brings records to the stores, those of one owner together and not too much at once."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._of = ("", "")
        self._page: list[Record] = []
        self._size = 0

    async def add(self, owned: OwnedRecord) -> None:
        of = (owned.tenant, owned.owner)
        if of != self._of or len(self._page) == PAGE or self._size >= MAX_READ_BYTES:
            await self.flush()
        self._of = of
        self._page.append(owned.record)
        self._size += len(owned.record.value)

    async def flush(self) -> None:
        page, self._page, self._size = self._page, [], 0
        if page:
            await self._shards.records(ImportRecords(*self._of, page))


class _Writer:
    """Brings one session after the other to the stores, in pages."""

    def __init__(self, shards: Shards, done: Imported) -> None:
        self._shards = shards
        self._done = done
        self._page: list[Turn] = []
        self._last = 0
        self._records = RecordWriter(shards)
        self.info: SessionInfo | None = None

    async def begin(self, info: SessionInfo) -> None:
        self.info = info
        self._page, self._last = [], 0
        try:
            found = await self._shards.session(GetSession(info.tenant, info.session_id))
            self._last = found.turns if found.created_us == info.created_us else 0
        except NotFound:
            self._done.sessions += 1
        await self._flush(info)

    async def add(self, turn: Turn) -> None:
        self._page.append(turn)
        if len(self._page) == PAGE and self.info is not None:
            await self._flush(self.info)

    async def keep(self, record: Record) -> None:
        """A record of the session, once its turns are there."""
        info = self.info
        if info is not None and _name(info) not in self._done.refused:
            await self._records.add(OwnedRecord(info.tenant, of_session(info.session_id), record))

    async def end(self) -> None:
        info, self.info = self.info, None
        if info is None or _name(info) in self._done.refused:
            return
        await self._flush(info)
        if _name(info) not in self._done.refused:
            await self._records.flush()
        if self._last < info.turns:
            self._done.short.append(_name(info))

    async def _flush(self, info: SessionInfo) -> None:
        page, self._page = self._page, []
        if _name(info) in self._done.refused:
            return
        try:
            last = (await self._shards.session(ImportSession(info, page))).turns
        except (Conflict, ValidationError) as refusal:
            self._done.refused[_name(info)] = refusal.message
            return
        self._done.turns += max(last - self._last, 0)
        self._last = last


def _name(info: SessionInfo) -> str:
    return f"{info.session_id} of {info.tenant}" if info.tenant else info.session_id
