"""The rules of a session that do not depend on where it is stored: what its head becomes, and what is refused.

`messages.sessions` says what the requests mean; every store asks here and then writes what it gets.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from rayflow.errors import Conflict, NotFound, ValidationError
from rayflow.messages import AppendTurns, CreateSession, ForkSession, ImportSession, SessionInfo, Turn, UpdateSession


def unknown(session_id: str) -> NotFound:
    return NotFound(f"there is no session {session_id}", kind="session", id=session_id)


def taken(session_id: str) -> Conflict:
    return Conflict(f"session {session_id} exists already: choose another id", session_id=session_id)


def check_append(request: AppendTurns, turns: int | None, closed: bool) -> None:
    """Whether this append may be made to a session of so many turns; None: to a new one."""
    session_id = request.session_id
    if turns is None and request.expected_seq > 0:
        raise NotFound(f"session {session_id} was deleted", kind="session", id=session_id)
    if closed:
        raise Conflict(f"session {session_id} is closed: fork it to go on, or begin another", session_id=session_id)
    last = turns or 0
    if request.expected_seq not in (-1, last):
        raise Conflict(
            f"session {session_id} is at turn {last}, not {request.expected_seq}: read it again",
            session_id=session_id,
            last_seq=last,
        )


def new_turns(request: AppendTurns, last: int, now_us: int) -> list[Turn]:
    """The turns of an append to a session that is at turn `last`."""
    run_id, agent, partial, digest = request.run_id, request.agent, request.partial, request.digest
    turns = [
        Turn(seq, message, run_id, agent, partial, now_us, None, digest)
        for seq, message in enumerate(request.messages, last + 1)
    ]
    if turns and request.usage is not None:
        turns[-1] = replace(turns[-1], usage=request.usage)
    return turns


def appended(info: SessionInfo | None, request: AppendTurns, now_us: int) -> tuple[SessionInfo, list[Turn]]:
    """The head after an append that was not made before, and the turns it adds. `info`: the session, if it is there."""
    check_append(request, info.turns if info else None, bool(info and info.closed_us))
    info = info or SessionInfo(request.session_id, request.tenant, request.user_id, now_us, now_us)
    turns = new_turns(request, info.turns, now_us)
    return replace(info, updated_us=now_us, turns=info.turns + len(turns)), turns


def created(request: CreateSession, now_us: int) -> SessionInfo:
    return SessionInfo(
        request.session_id,
        request.tenant,
        request.user_id,
        now_us,
        now_us,
        metadata=dict(request.metadata),
        title=request.title,
    )


def updated(info: SessionInfo, request: UpdateSession, now_us: int) -> SessionInfo:
    if request.expected_version not in (0, info.version):
        raise Conflict(
            f"session {info.session_id} has version {info.version}, not {request.expected_version}: read it again",
            session_id=info.session_id,
            version=info.version,
        )
    merged = {**info.metadata, **request.metadata}
    return replace(
        info,
        metadata={key: value for key, value in merged.items() if value is not None},
        title=info.title if request.title is None else request.title,
        version=info.version + 1,
        updated_us=now_us,
    )


def closed(info: SessionInfo, now_us: int) -> SessionInfo:
    return info if info.closed_us else replace(info, closed_us=now_us, updated_us=now_us)


def forked(parent: SessionInfo, request: ForkSession, now_us: int) -> SessionInfo:
    at = parent.turns if request.at < 0 else request.at
    if at > parent.turns:
        raise ValidationError(
            f"session {parent.session_id} has {parent.turns} turns: it cannot be forked at turn {at}", param="at"
        )
    return SessionInfo(
        request.child_id,
        parent.tenant,
        parent.user_id,
        now_us,
        now_us,
        at,
        dict(parent.metadata),
        parent.title,
        parent_conversation_id=parent.session_id,
        branch_id=request.branch_id or request.child_id,
        forked_at=at,
    )


def rolled_back(info: SessionInfo, run_id: str, theirs: Sequence[int], now_us: int) -> SessionInfo:
    """The head without what a run has added: `theirs`, the numbers of its turns, which are there."""
    keep = info.turns - len(theirs)
    if theirs[0] != keep + 1:
        raise not_the_end(info.session_id, run_id, info.turns)
    return replace(info, turns=keep, updated_us=now_us)


def before(now_us: int, age_s: float) -> int:
    """The time so long ago; 0 for an age of 0, which is never reached."""
    return now_us - round(age_s * 1e6) if age_s else 0


def idle(info: SessionInfo, unused_us: int, born_us: int) -> bool:
    """Whether a session was last changed before the one time, or began before the other."""
    return info.updated_us < unused_us or info.created_us < born_us


def not_the_end(session_id: str, run_id: str, last: int) -> Conflict:
    return Conflict(
        f"what run {run_id} added to session {session_id} cannot be taken back, because other turns or a fork go on"
        " from there: fork the session before it",
        session_id=session_id,
        last_seq=last,
    )


def imported(info: SessionInfo | None, request: ImportSession) -> tuple[SessionInfo, Sequence[Turn]]:
    """The head after an import, and the turns it adds. `info`: the session as it stands, if it does."""
    given = request.info
    if info is None:
        info = replace(given, turns=0)
    elif info.created_us != given.created_us:
        raise Conflict(
            f"session {given.session_id} is there already and is another one: delete it, or leave it out of the import",
            session_id=given.session_id,
        )
    turns = [turn for turn in request.turns if turn.seq > info.turns]
    end = info.turns + len(turns)
    if [turn.seq for turn in turns] != list(range(info.turns + 1, end + 1)):
        raise ValidationError(
            f"session {given.session_id} is at turn {info.turns}, and the turns to import do not go on there: its pages"
            " must come in order",
            param="turns",
        )
    return replace(info, turns=end), turns
