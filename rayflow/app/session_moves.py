"""All sessions and records to other stores: another backend, another server, another number of shards.

Kept results are left behind: they are made anew.

The old stores are read and never changed, so a move that was cut is made again, and one that was wrong is undone by
using the old ones. What was moved is counted on both sides before anything is said to be done.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from rayflow.app.attach import settled
from rayflow.app.session_access import stores
from rayflow.app.session_archive import Imported, RecordWriter, copied
from rayflow.app.shards import Shards
from rayflow.app.state import owned
from rayflow.config.load import load_or_example
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ConfigurationError, Conflict, NotFound, StorageError
from rayflow.messages import GetSession, OwnedRecord, SessionInfo
from rayflow.messages.records import RESULTS

BESIDE = "sessions-moving"
"""Where SQLite files are written, in the state folder, until all is there."""


@dataclass(frozen=True)
class Move:
    """`kept`: the folder of the old files, where there were any."""

    done: Imported
    sessions: int
    kept: Path | None


async def move(workflow: Path | None, state: Path | None, to: list[str]) -> Move:
    """Bring all sessions of the state folder where the workflow file would have them with `to` (KEY=VALUE) over it.

    Nothing may run. Raises `Unavailable` where something does, `Conflict` where another session has an id already, and
    `StorageError` where in the end something was missing.
    """
    source = settled(load_or_example(workflow), state)
    target = settled(load_or_example(workflow, to), state)
    if source.session == target.session:
        raise ConfigurationError("both are the same: say with --to what is to change, such as session.shards=4")
    if "memory" in (source.session.store, target.session.store):
        raise ConfigurationError("sessions of store memory end with their process: none can be moved")
    folder = Path(source.storage.state)
    if source.session.store == "sqlite" and not (folder / "sessions").exists():
        raise NotFound(f"there are no sessions in {folder}: name the state folder with --state", path=str(folder))
    with owned(folder):
        async with stores(source) as old, stores(_beside(target)) as new:
            done = await copied(old.shards, everything(old.shards), new.shards)
            if done.refused:
                first = next(iter(done.refused.values()))
                raise Conflict(f"{len(done.refused)} sessions could not be moved, and nothing was switched: {first}")
            await _copy_records(old.shards, new.shards)
            moved = await _compared(old.shards, new.shards)
            await _compare_records(old.shards, new.shards)
        return Move(done, moved, _switch(folder) if target.session.store == "sqlite" else None)


async def everything(shards: Shards, tenant: str | None = None, user_id: str = "") -> AsyncGenerator[SessionInfo, None]:
    """All sessions of all tenants, or of one."""
    for name in await shards.tenants() if tenant is None else [tenant]:
        async with aclosing(shards.every(name, user_id)) as sessions:
            async for info in sessions:
                yield info


def _beside(config: WorkflowConfig) -> WorkflowConfig:
    """The same stores; files not where the old ones are."""
    if config.session.store != "sqlite":
        return config
    folder = str(Path(config.storage.state) / BESIDE)
    return config.model_copy(update={"storage": config.storage.model_copy(update={"state": folder})})


async def _compared(old: Shards, new: Shards) -> int:
    """How many sessions there are, when each of the old ones is a new one with all its turns."""
    found = 0
    async with aclosing(everything(old)) as before:
        async for info in before:
            found += 1
            if await _there(new, info) != info:
                raise StorageError(
                    f"session {info.session_id} did not arrive as it was, and nothing was switched: try again",
                    session_id=info.session_id,
                )
    return found


async def _copy_records(old: Shards, new: Shards) -> None:
    writer = RecordWriter(new)
    async with aclosing(_records(old)) as records:
        async for owned in records:
            await writer.add(owned)
    await writer.flush()


async def _compare_records(old: Shards, new: Shards) -> None:
    """Whether each owner's are all there, as they were."""
    seen: tuple[str, str] | None = None
    async with aclosing(_records(old)) as records:
        async for owned in records:
            of = (owned.tenant, owned.owner)
            if of != seen:
                there = {(r.record.kind, r.record.name): r.record async for r in new.every_record(*of)}
                seen = of
            if there.get((owned.record.kind, owned.record.name)) != owned.record:
                raise StorageError(
                    f"record {owned.record.kind}/{owned.record.name} of {owned.owner} did not arrive as it was, and"
                    " nothing was switched: try again",
                    owner=owned.owner,
                )


async def _records(shards: Shards) -> AsyncGenerator[OwnedRecord, None]:
    async with aclosing(shards.every_record()) as records:
        async for owned in records:
            if not owned.owner.startswith(RESULTS):
                yield owned


async def _there(shards: Shards, info: SessionInfo) -> SessionInfo | None:
    try:
        return await shards.session(GetSession(info.tenant, info.session_id))
    except NotFound:
        return None


def _switch(folder: Path) -> Path | None:
    """The new files take the place of the old ones, which are kept under another name."""
    here, kept = folder / "sessions", None
    if here.exists():
        kept = next(name for number in count(1) if not (name := folder / f"sessions-before-{number}").exists())
        here.rename(kept)
    (folder / BESIDE / "sessions").rename(here)
    (folder / BESIDE).rmdir()
    return kept
