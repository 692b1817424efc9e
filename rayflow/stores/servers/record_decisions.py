"""What each request does to the records of a draft, by the rules that hold for all stores (`stores.records.rules`)."""

from __future__ import annotations

from collections.abc import Callable

from rayflow.messages import ErasedRecords, EraseRecords, ImportRecords, WriteRecords, Written
from rayflow.stores.records import rules
from rayflow.stores.servers.draft import Draft, Needs
from rayflow.stores.servers.record_draft import Expired, Kind, RecordNeeds, Spot


def need_write(request: WriteRecords, needs: Needs) -> None:
    rules.check_write(request)
    needs.records = RecordNeeds(
        {(request.tenant, request.owner)},
        {Spot(request.tenant, request.owner, write.kind, write.name) for write in request.writes},
    )


def write(request: WriteRecords, now_us: int, draft: Draft) -> Callable[[], Written]:
    key, records = (request.tenant, request.owner), draft.records
    spots = [Spot(*key, write.kind, write.name) for write in request.writes]
    after = [
        rules.written(records.standing(spot), write, now_us) for spot, write in zip(spots, request.writes, strict=True)
    ]
    for record in after:  # first, because without the owner's key this fails, and then nothing is changed
        if record is not None:
            records.put(key, record)
    for spot, record in zip(spots, after, strict=True):
        if record is None and records.standing(spot) is not None:
            records.remove(spot)
    return lambda: Written([record.version if record else 0 for record in after])


def need_erase(request: EraseRecords, needs: Needs) -> None:
    kinds = {Kind(request.tenant, request.owner, request.kind)} if request.kind else set[Kind]()
    needs.records = RecordNeeds({(request.tenant, request.owner)}, kinds=kinds)


def erase(request: EraseRecords, draft: Draft) -> Callable[[], ErasedRecords]:
    if not request.kind:
        gone = draft.records.drop((request.tenant, request.owner))
    else:
        spots = draft.records.of_kind(Kind(request.tenant, request.owner, request.kind))
        for spot in spots:
            draft.records.remove(spot)
        gone = len(spots)
    return lambda: ErasedRecords(gone)


def need_import(request: ImportRecords, needs: Needs) -> None:
    rules.check_owner(request.owner)
    needs.records = RecordNeeds(
        {(request.tenant, request.owner)},
        {Spot(request.tenant, request.owner, record.kind, record.name) for record in request.records},
    )


def import_records(request: ImportRecords, draft: Draft) -> Callable[[], None]:
    key = (request.tenant, request.owner)
    for record in request.records:
        if rules.newer(record, draft.records.standing(Spot(*key, record.kind, record.name))):
            draft.records.put(key, record)
    return lambda: None


def need_rekey(limit: int, needs: Needs) -> None:
    needs.records = RecordNeeds(stale=limit)


def rekey(limit: int, draft: Draft) -> Callable[[], int]:
    done = sum(draft.records.rekey(key) for key in draft.found.records.stale[:limit])
    return lambda: done


def need_expire(expired: Expired, needs: Needs) -> None:
    needs.records = RecordNeeds(expired={expired})


def expire(expired: Expired, draft: Draft) -> Callable[[], int]:
    """Those that were read as expired, unless a request of this batch has prolonged them. One that is gone may still
    stand in a list of what expires, and counts."""
    gone = 0
    for spot in draft.found.records.expired[expired]:
        there = draft.records.standing(spot)
        if there is None or not rules.alive(there.expires_us, expired.now_us):
            draft.records.remove(spot)
            gone += 1
    return lambda: gone
