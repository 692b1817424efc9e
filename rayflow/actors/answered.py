"""Answers that are remembered longer than their sessions: a key is good for 24 hours.

While a session is there, its log tells who asked what and what was answered. Where sessions may expire before that, the
answers of requests with a key are kept beside them as well: a record for each run, in the shard of its session and
under an owner of its own, which does not go when the session expires. It goes when somebody deletes the session or
erases the user. The log has the last word as long as it knows the run.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from rayflow.clock import Clock
from rayflow.errors import KeyReused, NotFound
from rayflow.messages import (
    Appended,
    AppendTurns,
    DeleteSession,
    EraseRecords,
    EraseUser,
    GetSession,
    ListRecords,
    ReadRecords,
    RecordWrite,
    Turn,
    WriteRecords,
)
from rayflow.messages.records import ANSWERED, of_answered
from rayflow.runtime.ports import ShardStore

KIND = "answer"
REMEMBERED_S = 86_400.0
"""How long the answer to a request with a key is told again, at least."""
PAGE = 100


class Told(msgspec.Struct, frozen=True):
    """`turn`: the answer, with the digest of its request."""

    turn: Turn
    user_id: str


_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Told).decode


class Answered:
    """In the session store actor, which alone writes to `store`."""

    def __init__(self, store: ShardStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def recall(self, request: AppendTurns) -> Appended | None:
        """The answer to a request of a session that has expired since. Raises `KeyReused` where the key belonged to
        another request."""
        if _answers(request):
            return None
        read = ReadRecords(request.tenant, of_answered(request.session_id), KIND, [request.run_id])
        found = (await self._store.read_records(read, self._clock.wall_us())).records
        if not found or await self._lasts(request, found[0].created_us):
            return None
        turn = _decode(found[0].value).turn
        if turn.digest != request.digest:
            raise KeyReused()
        return Appended(turn.seq, answer=turn)

    async def keep(self, request: AppendTurns, appended: Appended) -> None:
        """What was appended may be the answer, or show that it is there. A repetition finds it in either way, so it may
        be kept after it was written, before anybody is told."""
        answer = appended.answer
        if answer is None and _answers(request):
            answer = Turn(
                appended.last_seq,
                request.messages[-1],
                request.run_id,
                request.agent,
                False,
                self._clock.wall_us(),
                request.usage,
                request.digest,
            )
        if answer is not None:
            expires_us = answer.created_us + round(REMEMBERED_S * 1e6)
            write = RecordWrite(KIND, request.run_id, _encode(Told(answer, request.user_id)), expires_us=expires_us)
            record = WriteRecords(request.tenant, of_answered(request.session_id), [write])
            await self._store.write_records(record, self._clock.wall_us())

    async def forget_session(self, request: DeleteSession) -> None:
        await self._store.erase_records(EraseRecords(request.tenant, of_answered(request.session_id)))

    async def forget_user(self, request: EraseUser) -> int:
        """Returns how many answers to this user there were."""
        tenant, forgotten, more = request.tenant, 0, True
        read = ListRecords(tenant, after=(tenant, ANSWERED, "", ""), limit=PAGE)
        while more:
            page = await self._store.list_records(read)
            for owned in page.records:
                if not owned.owner.startswith(ANSWERED):
                    return forgotten
                if _decode(owned.record.value).user_id == request.user_id:
                    gone = RecordWrite(KIND, owned.record.name, None)
                    await self._store.write_records(WriteRecords(tenant, owned.owner, [gone]), self._clock.wall_us())
                    forgotten += 1
            more = page.more
            if more:
                last = page.records[-1]
                read = replace(read, after=(tenant, last.owner, last.record.kind, last.record.name))
        return forgotten

    async def _lasts(self, request: AppendTurns, answered_us: int) -> bool:
        """Whether the session in which it was answered is there still; it may have begun anew."""
        try:
            info = await self._store.get(GetSession(request.tenant, request.session_id))
        except NotFound:
            return False
        return info.created_us <= answered_us


def _answers(request: AppendTurns) -> bool:
    return not request.partial and all(message.role == "assistant" for message in request.messages)
