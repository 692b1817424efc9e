"""What each request does to a draft, by the rules that hold for all stores (`stores.rules`).

A request comes as a pair: what must be read for it, and what it then does. What it does may leave turns to be read for
the reply, so a decision returns a function that makes the reply when that was done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rayflow.messages import (
    Appended,
    AppendTurns,
    CloseSession,
    CreateSession,
    DeleteSession,
    Erased,
    EraseUser,
    ForkSession,
    ImportSession,
    RollBackRun,
    SessionInfo,
    UpdateSession,
)
from rayflow.messages.records import of_session, of_user
from rayflow.stores import rules
from rayflow.stores.repeat import repeated
from rayflow.stores.servers.draft import Draft, Idle, Needs, RunOf
from rayflow.stores.servers.record_draft import RecordNeeds
from rayflow.stores.servers.rows import Head, Key


class OfSession(Protocol):
    """A request that names a session."""

    @property
    def tenant(self) -> str: ...

    @property
    def session_id(self) -> str: ...


def need_head(request: OfSession, needs: Needs) -> None:
    needs.heads.add(_key(request))


def need_append(request: AppendTurns, needs: Needs) -> None:
    needs.heads.add(_key(request))
    if request.run_id:
        needs.runs.add(RunOf(_key(request), request.run_id))


def append(request: AppendTurns, now_us: int, draft: Draft) -> Callable[[], Appended]:
    key = _key(request)
    head = draft.head(key)
    if head is not None and request.run_id and (repeat := _repeat(request, draft)) is not None:
        return repeat
    info, turns = rules.appended(head.info if head else None, request, now_us)
    before = info.turns - len(turns)
    window = draft.range(key, before - request.window, before) if request.window else None
    if head is None:
        draft.make(info, turns)
    else:
        draft.write(Head(info, head.key), turns)
    return lambda: Appended(
        info.turns, created=head is None, window=window.turns if window else [], version=info.version
    )


def _repeat(request: AppendTurns, draft: Draft) -> Callable[[], Appended] | None:
    """The reply to an append that was made before."""
    key, version = _key(request), _existing(draft, _key(request)).info.version
    roles = [message.role for message in request.messages]
    had = draft.run(RunOf(key, request.run_id))
    repeat = repeated(had, roles, request.expected_seq, digest=request.digest, partial=request.partial)
    if repeat is None:
        return None
    before = repeat.last_seq - len(roles)
    window = draft.range(key, before - request.window, before) if request.window else None
    answer = None if repeat.answer is None else draft.range(key, repeat.answer - 1, repeat.answer)
    return lambda: Appended(
        repeat.last_seq,
        window=window.turns if window else [],
        answer=answer.turns[0] if answer else None,
        version=version,
    )


def create(request: CreateSession, now_us: int, draft: Draft) -> Callable[[], SessionInfo]:
    head = draft.head(_key(request))
    if head is not None and not request.get_or_create:
        raise rules.taken(request.session_id)
    info = draft.make(rules.created(request, now_us)) if head is None else head.info
    return lambda: info


def update(request: UpdateSession, now_us: int, draft: Draft) -> Callable[[], SessionInfo]:
    head = _existing(draft, _key(request))
    info = draft.write(Head(rules.updated(head.info, request, now_us), head.key))
    return lambda: info


def need_fork(request: ForkSession, needs: Needs) -> None:
    needs.heads |= {_key(request), (request.tenant, request.child_id)}
    needs.logs.add(_key(request))


def fork(request: ForkSession, now_us: int, draft: Draft) -> Callable[[], SessionInfo]:
    """The child's turns are its own, encrypted with its own key: a copy costs less than what it would take to keep the
    turns of a parent that is deleted."""
    parent = _existing(draft, _key(request))
    if draft.head((request.tenant, request.child_id)) is not None:
        raise rules.taken(request.child_id)
    child = rules.forked(parent.info, request, now_us)
    draft.make(child, draft.log(_key(request), child.turns))
    return lambda: child


def close(request: CloseSession, now_us: int, draft: Draft) -> Callable[[], SessionInfo]:
    head = _existing(draft, _key(request))
    info = draft.write(Head(rules.closed(head.info, now_us), head.key))
    return lambda: info


def need_roll_back(request: RollBackRun, needs: Needs) -> None:
    needs.heads.add(_key(request))
    needs.runs.add(RunOf(_key(request), request.run_id))


def roll_back(request: RollBackRun, now_us: int, draft: Draft) -> Callable[[], SessionInfo]:
    key = _key(request)
    head = _existing(draft, key)
    info = head.info
    if theirs := draft.run(RunOf(key, request.run_id)):
        info = rules.rolled_back(info, request.run_id, [turn.seq for turn in theirs], now_us)
        draft.cut(key, info.turns, [request.run_id])
        draft.write(Head(info, head.key))
    return lambda: info


def need_delete(request: DeleteSession, needs: Needs) -> None:
    needs.heads.add(_key(request))
    needs.records = RecordNeeds({(request.tenant, of_session(request.session_id))})


def delete(request: DeleteSession, draft: Draft) -> Callable[[], None]:
    _existing(draft, _key(request))
    draft.drop(_key(request))
    return lambda: None


def need_erase(request: EraseUser, needs: Needs) -> None:
    needs.users.add((request.tenant, request.user_id))
    needs.records = RecordNeeds({(request.tenant, of_user(request.user_id))})


def erase(request: EraseUser, draft: Draft) -> Callable[[], Erased]:
    theirs = draft.of_user(request.tenant, request.user_id)
    for key in theirs:
        draft.drop(key)
    records = draft.records.drop((request.tenant, of_user(request.user_id)))
    return lambda: Erased(len(theirs), records)


def need_expire(idle: Idle, needs: Needs) -> None:
    needs.idle.add(idle)


def expire(idle: Idle, draft: Draft) -> Callable[[], int]:
    """Those that were read as idle, unless a request of this batch has used them."""
    heads = [head for key in draft.found.idle[idle] if (head := draft.head(key)) is not None]
    gone = [head for head in heads if rules.idle(head.info, idle.unused_us, idle.born_us)]
    for head in gone:
        draft.drop(head.of)
    return lambda: len(gone)


def need_import(request: ImportSession, needs: Needs) -> None:
    key = _key(request.info)
    needs.heads.add(key)
    needs.runs |= {RunOf(key, turn.run_id) for turn in request.turns if turn.run_id}


def import_session(request: ImportSession, draft: Draft) -> Callable[[], SessionInfo]:
    head = draft.head(_key(request.info))
    info, turns = rules.imported(head.info if head else None, request)
    if head is None:
        draft.make(info, turns)
    elif turns:
        draft.write(Head(info, head.key), turns)
    return lambda: info


def need_rekey(limit: int, needs: Needs) -> None:
    needs.stale = limit


def rekey(limit: int, draft: Draft) -> Callable[[], int]:
    """Wrap data keys anew; a session without one is given one and written again as a whole."""
    payloads, done = draft.rows.payloads, 0
    for head in [head for key in draft.found.stale[:limit] if (head := draft.head(key)) is not None]:
        if not payloads.stale(head.key):
            continue
        if head.key:
            draft.write(Head(head.info, payloads.rewrap(head.log)))
        else:
            turns = draft.log(head.of, head.info.turns)
            draft.cut(head.of, 0, ())
            draft.write(Head(head.info, payloads.new_key(*head.of)), turns)
        done += 1
    return lambda: done


def _key(request: OfSession) -> Key:
    return request.tenant, request.session_id


def _existing(draft: Draft, key: Key) -> Head:
    head = draft.head(key)
    if head is None:
        raise rules.unknown(key[1])
    return head
