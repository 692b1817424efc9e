"""Sessions out and in, and from stores to other stores: whole, in order, again, and after a cut."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.sessions import assistant, user

from rayflow.app import session_moves
from rayflow.app.client import SystemClient
from rayflow.app.session_access import open_sessions, stores
from rayflow.app.session_archive import copied, exported, imported
from rayflow.app.session_moves import everything, move
from rayflow.app.state import owned
from rayflow.chat import Usage
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ConfigurationError, Conflict, NotFound, StorageError, Unavailable, ValidationError
from rayflow.messages import (
    AppendTurns,
    CloseSession,
    CreateSession,
    ForkSession,
    GetSession,
    ListSessions,
    OwnedRecord,
    ReadRecords,
    RecordWrite,
    WriteRecords,
)
from rayflow.messages.records import RESULTS, TENANT, of_session, of_user
from rayflow.policies.placement import owner

KEY = bytes(range(32)).hex()


@asynccontextmanager
async def shards(state: Path, **session: Any) -> AsyncIterator[SystemClient]:
    """The stores of a state folder."""
    config = WorkflowConfig.model_validate(
        {"name": "w", "agents": [{"name": "a"}], "session": session, "storage": {"state": str(state)}}
    )
    async with stores(config) as client:
        yield client


async def append(client: SystemClient, session: str, *texts: str, tenant: str = "", **more: Any) -> None:
    messages = [(user, assistant)[i % 2](text) for i, text in enumerate(texts)]
    request = AppendTurns(tenant, session, messages, **more)
    await client.fabric.ask(owner(session, client.shards.addresses), request, 1.0)


async def fill(client: SystemClient) -> None:
    """What an export could get wrong: tenants with the same ids, more than a page, forks, what was cut or closed."""
    for tenant in ("", "acme"):
        await client.session(CreateSession(tenant, "same", "ann", {"of": tenant}, f"{tenant} title"))
        await append(client, "same", "q", "a", tenant=tenant, run_id="r", agent="billing", usage=Usage(3, 4))
    await append(client, "long", *(str(i) for i in range(250)))
    await client.session(ForkSession("", "long", client.shards.sibling("long"), 120, "b"))
    await append(client, "cut", "q")
    await append(client, "cut", "half", partial=True)
    await client.session(CloseSession("", "cut"))
    await client.session(CreateSession("", "empty"))
    await keep(client, of_session("long"), *(f"n{i:03}" for i in range(120)))
    await keep(client, of_session("same"), "a", "a", tenant="acme")


async def keep(client: SystemClient, owner: str, *names: str, tenant: str = "") -> None:
    for name in names:
        write = RecordWrite("state", name, f"\0 of {owner}".encode(), expires_us=2**60)
        await client.shards.records(WriteRecords(tenant, owner, [write]))


async def records(client: SystemClient) -> list[OwnedRecord]:
    found = [owned async for owned in client.shards.every_record()]
    return sorted(found, key=lambda owned: (owned.tenant, owned.owner, owned.record.name))


async def lines(client: SystemClient) -> list[bytes]:
    parts = [part async for part in exported(client.shards, everything(client.shards))]
    return b"".join(parts).splitlines(keepends=True)


def facts(export: Iterable[bytes]) -> dict[str, list[dict[str, Any]]]:
    """The turns of each session, by its line."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in map(json.loads, export):
        if "session" in line:
            turns = found[json.dumps(line["session"])] = []
        elif "turn" in line:
            turns.append(line["turn"])
        elif "record" in line:
            turns.append(line["record"])
    return found


async def test_what_is_exported_and_imported_is_the_same(tmp_path: Path) -> None:
    async with shards(tmp_path / "a", shards=2) as old:
        await fill(old)
        export = await lines(old)
    async with shards(tmp_path / "b", shards=3, encryption={"key": KEY}) as new:
        done = await imported(new.shards, export)
        assert (done.sessions, done.refused, done.short) == (6, {}, [])
        assert done.turns == 2 + 2 + 250 + 120 + 2
        assert facts(await lines(new)) == facts(export)
        (record,) = [owned.record for owned in await records(new) if owned.tenant == "acme"]
        assert (record.value, record.version) == (b"\0 of session/same", 2)


async def test_importing_again_changes_nothing(tmp_path: Path) -> None:
    async with shards(tmp_path / "a") as old:
        await fill(old)
        export = await lines(old)
        again = await imported(old.shards, export)
        assert (again.sessions, again.turns, again.refused, again.short) == (0, 0, {}, [])
        assert await lines(old) == export


@pytest.mark.parametrize("keep", [2, 3, 60, 150, 300])
async def test_a_cut_import_is_made_whole_by_the_next(tmp_path: Path, keep: int) -> None:
    async with shards(tmp_path / "a") as old:
        await fill(old)
        export = await lines(old)
    async with shards(tmp_path / "b") as new:
        cut = export[:keep]
        cut[-1] = cut[-1][: len(cut[-1]) // 2]
        with pytest.raises(ValidationError, match=f"line {keep} is no line of an export"):
            await imported(new.shards, cut)
        first = await imported(new.shards, export[: keep - 1])
        assert len(first.short) <= 1
        done = await imported(new.shards, export)
        assert (done.refused, done.short) == ({}, [])
        assert facts(await lines(new)) == facts(export)


async def test_an_export_of_the_time_before_records_comes_in(tmp_path: Path) -> None:
    async with shards(tmp_path) as client:
        done = await imported(
            client.shards,
            [
                b'{"rayflow_sessions":1}',
                b'{"session":{"type":"SessionInfo","session_id":"s","turns":1}}',
                b'{"turn":{"seq":1,"message":{"role":"user","content":"x"}}}',
            ],
        )
        assert (done.sessions, done.turns, done.refused, done.short) == (1, 1, {}, [])


async def test_records_written_since_an_export_stay_when_it_is_imported_again(tmp_path: Path) -> None:
    async with shards(tmp_path) as client:
        await client.session(CreateSession("", "s"))
        await keep(client, of_session("s"), "a")
        export = await lines(client)
        await keep(client, of_session("s"), "a")
        await imported(client.shards, export)
        assert [owned.record.version for owned in await records(client)] == [2]


async def test_the_records_of_a_session_that_is_another_one_are_left_out(tmp_path: Path) -> None:
    async with shards(tmp_path / "a") as old:
        await fill(old)
        export = await lines(old)
    async with shards(tmp_path / "b") as new:
        await append(new, "long", "mine")
        await imported(new.shards, export)
        assert {owned.owner for owned in await records(new)} == {of_session("same")}


async def test_a_session_that_is_another_one_is_named_and_left(tmp_path: Path) -> None:
    async with shards(tmp_path / "a") as old:
        await fill(old)
        export = await lines(old)
    async with shards(tmp_path / "b") as new:
        await append(new, "long", "mine")
        done = await imported(new.shards, export)
        assert list(done.refused) == ["long"]
        assert "is another one" in done.refused["long"]
        assert (await new.session(GetSession("", "long"))).turns == 1
        assert (await new.session(GetSession("acme", "same"))).title == "acme title"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b'{"session":{"type":"SessionInfo","session_id":"s"}}\n', "line 1: expected an export"),
        (b'{"rayflow_sessions":3}\n', "upgrade rayflow"),
        (b'{"rayflow_sessions":1}\n{"rayflow_sessions":1}\n', "line 2: expected"),
        (
            b'{"rayflow_sessions":1}\n{"turn":{"seq":1,"message":{"role":"user"}}}\n',
            "line 2: a turn that belongs to no",
        ),
        (
            b'{"rayflow_sessions":2}\n{"record":{"kind":"k","name":"n","value":""}}\n',
            "line 2: a record that belongs to no",
        ),
        (b'{"rayflow_sessions":1}\n{"session":{"type":"SessionInfo","session_id":"a b"}}\n', "line 2: 'a b' cannot be"),
        (b'{"rayflow_sessions":1}\n{"other":1}\n', "line 2 is no line"),
        (b"\xff\n", "line 1 is no line"),
        (b"PAR1", "line 1 is no line"),
    ],
)
async def test_what_is_no_export_is_refused_by_its_line(tmp_path: Path, text: bytes, problem: str) -> None:
    async with shards(tmp_path) as client:
        with pytest.raises(ValidationError, match=problem):
            await imported(client.shards, text.splitlines(keepends=True))


async def test_pages_that_do_not_go_on_are_refused(tmp_path: Path) -> None:
    async with shards(tmp_path) as client:
        done = await imported(
            client.shards,
            [
                b'{"rayflow_sessions":1}',
                b'{"session":{"type":"SessionInfo","session_id":"s","turns":2}}',
                b'{"turn":{"seq":2,"message":{"role":"user","content":"x"}}}',
            ],
        )
        assert "at turn 0" in done.refused["s"]


# --- moves ---


async def ids(state: Path, **session: Any) -> set[str]:
    async with shards(state, **session) as client:
        return {info.session_id async for info in everything(client.shards)}


async def test_sessions_move_to_another_number_of_shards_and_get_encrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shards(tmp_path, shards=2) as old:
        await fill(old)
        before = await lines(old)
    workflow = tmp_path / "w.yaml"
    workflow.write_text("name: w\nagents: [{name: a}]\nsession: {shards: 2}\n")
    to = ["session.shards=5", f"session.encryption.key={KEY}"]
    moved = await move(workflow, tmp_path, to)
    assert (moved.sessions, moved.kept) == (6, tmp_path / "sessions-before-1")
    async with shards(tmp_path, shards=5, encryption={"key": KEY}) as new:
        assert facts(await lines(new)) == facts(before)
    assert not any(b"half" in file.read_bytes() for file in (tmp_path / "sessions").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "sessions", "sessions-before-1", "w.yaml"]
    with pytest.raises(ConfigurationError, match="were written with 5"):
        await move(workflow, tmp_path, to)


async def test_what_users_and_tenants_keep_moves_too_and_kept_results_do_not(tmp_path: Path) -> None:
    owners = [of_user("ann"), of_user("bob"), TENANT, of_session("never-begun")]
    async with shards(tmp_path, shards=2) as old:
        await fill(old)
        for owner in owners:
            await keep(old, owner, "a", "b")
        before = await records(old)
        await keep(old, RESULTS + "0", "made anew")
    workflow = tmp_path / "w.yaml"
    workflow.write_text("name: w\nagents: [{name: a}]\nsession: {shards: 2}\n")
    await move(workflow, tmp_path, ["session.shards=5", f"session.encryption.key={KEY}"])
    async with shards(tmp_path, shards=5, encryption={"key": KEY}) as new:
        assert await records(new) == before
        for owner in owners:
            found = await new.shards.records(ReadRecords("", owner, "state"))
            assert [record.name for record in found.records] == ["a", "b"]
    files = [file for file in (tmp_path / "sessions").iterdir() if b"of user/ann" in file.read_bytes()]
    assert files == []


async def test_a_record_that_did_not_arrive_keeps_the_old_ones_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shards(tmp_path) as old:
        await keep(old, TENANT, "a")

    async def forgetful(*_: object) -> None: ...

    monkeypatch.setattr(session_moves, "_copy_records", forgetful)
    with pytest.raises(StorageError, match=r"record state/a of tenant/ did not arrive.* nothing was switched"):
        await move(None, tmp_path, ["session.shards=2"])
    async with shards(tmp_path) as old:
        assert len(await records(old)) == 1


async def test_a_move_that_was_cut_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shards(tmp_path) as old:
        await fill(old)
        before = await lines(old)

    async def fail(*_: object) -> Any:
        raise StorageError("the machine stopped")

    monkeypatch.setattr(session_moves, "_compared", fail)
    with pytest.raises(StorageError, match="the machine stopped"):
        await move(None, tmp_path, ["session.shards=2"])
    monkeypatch.undo()
    async with shards(tmp_path) as old:
        assert await lines(old) == before
    assert (await move(None, tmp_path, ["session.shards=2"])).sessions == 6
    async with shards(tmp_path, shards=2) as new:
        assert facts(await lines(new)) == facts(before)


async def test_a_session_that_did_not_arrive_keeps_the_old_ones_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shards(tmp_path) as old:
        await fill(old)

    async def lossy(old: Any, sessions: Any, new: Any) -> Any:
        await sessions.__anext__()
        return await copied(old, sessions, new)

    monkeypatch.setattr(session_moves, "copied", lossy)
    with pytest.raises(StorageError, match="did not arrive as it was, and nothing was switched"):
        await move(None, tmp_path, ["session.shards=2"])
    assert len(await ids(tmp_path)) == 5, "one id of two tenants"


@pytest.mark.parametrize(
    ("to", "problem"),
    [
        (["processing.routers=2"], "both are the same"),
        (["session.store=memory"], "none can be moved"),
        (["session.shards=100"], "session.shards"),
    ],
)
async def test_a_move_to_nowhere_is_refused(tmp_path: Path, to: list[str], problem: str) -> None:
    await ids(tmp_path)
    with pytest.raises(ConfigurationError, match=problem):
        await move(None, tmp_path, to)


# --- access ---


async def test_nobody_opens_sessions_that_are_not_there_or_in_use(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="name the state folder"):
        async with open_sessions(None, tmp_path / "typo"):
            pass
    assert not (tmp_path / "typo").exists()
    await ids(tmp_path)
    with owned(tmp_path), pytest.raises(Unavailable, match="in use"):
        async with open_sessions(None, tmp_path):
            pass
    async with open_sessions(None, tmp_path) as client:
        assert (await client.shards.list(ListSessions(""))).sessions == []


async def test_sessions_in_memory_are_gone_with_their_system(tmp_path: Path) -> None:
    workflow = tmp_path / "w.yaml"
    workflow.write_text("name: w\nagents: [{name: a}]\nsession: {store: memory}\n")
    with pytest.raises(Unavailable, match="its sessions ended with it"):
        async with open_sessions(workflow, tmp_path):
            pass


async def test_a_conflict_stops_a_move_before_anything_is_switched(tmp_path: Path) -> None:
    async with shards(tmp_path) as old:
        await append(old, "s", "old")
    async with shards(tmp_path / session_moves.BESIDE, shards=2) as left:
        await append(left, "s", "other")
    with pytest.raises(Conflict, match="nothing was switched"):
        await move(None, tmp_path, ["session.shards=2"])
    assert await ids(tmp_path) == {"s"}
