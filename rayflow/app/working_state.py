"""The working state of a session: read it, change it, go back.

Whoever changes a state reads its head, decides, and writes head and delta at once, on condition that the head is still
the one that was read. So of two who write at the same moment the later one decides again on what the earlier one has
made. Within a process they wait in line for that, which is fair and saves vain attempts; between processes nobody holds
a lock. What an update does to values is in `policies.state`.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from rayflow.app.client import SystemClient
from rayflow.app.state_records import StateRecords
from rayflow.config.schema import StateConfig
from rayflow.errors import Conflict, PeerLost, ValidationError
from rayflow.ids import is_safe_id
from rayflow.messages import RecordWrite, SessionInfo
from rayflow.policies.state import (
    CHECKPOINT,
    DELTA,
    Change,
    Checkpoint,
    Delta,
    Mark,
    State,
    StateUpdate,
    StateView,
    commutes,
    delta_name,
    diff,
    updated,
    view,
)

ATTEMPTS = 50
"""A write that others were faster than so often is given up."""
MOST_TRIMMED = 900
"""Deltas that one write deletes at most, where `state.history` has become smaller."""

Decide = Callable[[State], Awaitable[dict[str, Any]]]


async def inherit_state(client: SystemClient, fork: SessionInfo) -> None:
    """Give a session that was just forked its parent's state; nothing where the workflow has none."""
    if client.config.state.fields:
        await WorkingState(client, fork.tenant, fork.session_id).inherit(fork.parent_conversation_id, fork.forked_at)


class WorkingState:
    """The state of one session. `by`: how the writer is named in the history.

    All methods raise `NotFound` where the tenant has no such session, and what asking a store raises: `StorageError`,
    `FabricError`, `Unavailable`. Those that change something raise `Conflict` where the session is closed.
    """

    def __init__(self, client: SystemClient, tenant: str, session_id: str, by: str = "") -> None:
        self._client = client
        self._tenant = tenant
        self._session_id = session_id
        self._records = StateRecords(client, tenant, session_id)
        self._by = by

    @property
    def config(self) -> StateConfig:
        """The schema."""
        return self._client.config.state

    async def read(self, version: int | None = None) -> StateView:
        """The present state, or an earlier version of it. Raises `NotFound` where the history does not reach so far."""
        await self._records.session()
        head, _ = await self._records.head()
        return view(self.config, head if version is None else await self._records.at(head, version))

    async def update(self, update: StateUpdate | Mapping[str, Any], expected_version: int | None = None) -> StateView:
        """Change the state, all or nothing; an update that changes nothing makes no version. Plain values are taken in
        as the fields' reducers say.

        `expected_version`: the version the caller has read. Where another one is there by now, an update that is right
        all the same (its reducers commute) is made, and any other fails with `Conflict`, whose details have the present
        `version`. Raises `ValidationError`, whose details have the field as `param`.
        """
        config, change = self.config, update if isinstance(update, StateUpdate) else StateUpdate(dict(update))

        async def decide(head: State) -> dict[str, Any]:
            if not commutes(config, change):
                self._expect(head, expected_version)
            return updated(config, head.values, change)

        return await self._change(decide)

    async def history(self, limit: int = 20, before: int | None = None) -> list[Delta]:
        """What the last versions have changed, the newest first. `before`: only versions below this one."""
        await self._records.session()
        head, _ = await self._records.head()
        last = head.version if before is None else min(head.version, before - 1)
        return (await self._records.deltas(max(head.oldest, last - limit) + 1, last))[::-1]

    async def diff(self, before: int, after: int | None = None) -> list[Change]:
        """What leads from one version to another, which may be the earlier one; to the present one without `after`."""
        await self._records.session()
        head, _ = await self._records.head()
        then = await self._records.at(head, before)
        now = head if after is None else await self._records.at(head, after)
        return diff(then.values, now.values)

    async def checkpoints(self) -> dict[str, Mark]:
        """By name, in the order in which they were made."""
        await self._records.session()
        return (await self._records.head())[0].checkpoints

    async def checkpoint(self, name: str, version: int | None = None) -> Mark:
        """Keep a version, the present one by default, under a name. Raises `Conflict` where the name is taken or there
        are `state.checkpoints` of them."""
        if not is_safe_id(name):
            raise ValidationError("name: must be 1 to 255 letters, digits and . _ : @ -", param="name")
        most = self.config.checkpoints

        async def keep(head: State) -> tuple[State, RecordWrite]:
            if name in head.checkpoints:
                raise Conflict(
                    f"session {self._session_id} has a checkpoint {name} already: delete it first, or choose another"
                    " name",
                    name=name,
                )
            if len(head.checkpoints) >= most:
                raise Conflict(
                    f"session {self._session_id} has {len(head.checkpoints)} checkpoints, and state.checkpoints allows"
                    f" {most}: delete one first",
                    limit=most,
                )
            kept = head if version is None else await self._records.at(head, version)
            mark = Mark(kept.version, self._client.now_us())
            value = msgspec.json.encode(Checkpoint(kept.version, kept.schema_version, kept.values))
            return replace(head, checkpoints={**head.checkpoints, name: mark}), RecordWrite(CHECKPOINT, name, value)

        return (await self._mark(keep)).checkpoints[name]

    async def delete_checkpoint(self, name: str) -> None:
        """Raises `NotFound` where there is none of that name."""

        async def drop(head: State) -> tuple[State, RecordWrite]:
            if name not in head.checkpoints:
                raise self._records.no_checkpoint(name)
            others = {key: mark for key, mark in head.checkpoints.items() if key != name}
            return replace(head, checkpoints=others), RecordWrite(CHECKPOINT, name, None)

        await self._mark(drop)

    async def restore(
        self, checkpoint: str | None = None, version: int | None = None, expected_version: int | None = None
    ) -> StateView:
        """Make a new version with the values of a checkpoint, or of an earlier version. Nothing is rewritten, so that
        can be undone in the same way. Raises `NotFound`, and `Conflict` where `expected_version` is not the present
        one."""
        if (checkpoint is None) == (version is None):
            raise ValidationError("restore either a checkpoint or a version", param="checkpoint")

        async def decide(head: State) -> dict[str, Any]:
            self._expect(head, expected_version)
            if version is not None:
                return (await self._records.at(head, version)).values
            assert checkpoint is not None, "one of the two is given"
            return (await self._records.checkpoint(checkpoint)).values

        what = f"checkpoint {checkpoint}" if version is None else f"version {version}"
        return await self._change(decide, f"restored {what}")

    async def inherit(self, parent_id: str, at: int) -> None:
        """Begin with the state that the session's parent had after its turn `at`; for a fork that was just made.

        Where the parent's history does not reach back to that turn, with its present state. Checkpoints stay with the
        parent. Without a state there is nothing to inherit.
        """
        state = await StateRecords(self._client, self._tenant, parent_id).as_of(at)

        async def decide(head: State) -> dict[str, Any]:
            return state.values

        if state.values:
            await self._change(decide, f"forked from {parent_id} at version {state.version}")

    # --- reading ---

    # --- writing ---

    async def _change(self, decide: Decide, note: str = "") -> StateView:
        """Make the version that `decide` makes of the head."""
        async with self._records.line():
            return await self._change_in_line(decide, note)

    async def _change_in_line(self, decide: Decide, note: str) -> StateView:
        info, write_id = await self._records.open_session(), secrets.token_hex(8)
        for _ in range(ATTEMPTS):
            head, record_version = await self._records.head()
            values = await decide(head)
            changes = diff(head.values, values)
            if not changes:
                return view(self.config, head)
            version, now_us, schema_version = head.version + 1, self._client.now_us(), self.config.schema_version
            delta = Delta(version, now_us, info.turns, changes, schema_version, self._by, note, write_id)
            oldest = min(max(head.oldest, version - self.config.history), head.oldest + MOST_TRIMMED)
            new = replace(
                head,
                version=version,
                schema_version=schema_version,
                values=values,
                updated_us=now_us,
                oldest=oldest,
            )
            outdated = [RecordWrite(DELTA, delta_name(v), None) for v in range(head.oldest + 1, oldest + 1)]
            added = RecordWrite(DELTA, delta_name(version), msgspec.json.encode(delta))
            try:
                await self._records.write(new, record_version, [added, *outdated])
            except Conflict:
                continue
            except PeerLost:
                if not await self._records.written(version, write_id):
                    continue
            return view(self.config, new)
        raise self._busy()

    async def _mark(self, decide: Callable[[State], Awaitable[tuple[State, RecordWrite]]]) -> State:
        """Change the list of checkpoints, which makes no version."""
        async with self._records.line():
            await self._records.open_session()
            for _ in range(ATTEMPTS):
                head, record_version = await self._records.head()
                new, write = await decide(head)
                try:
                    await self._records.write(new, record_version, [write])
                except Conflict:
                    continue
                return new
            raise self._busy()

    def _expect(self, head: State, version: int | None) -> None:
        if version is not None and version != head.version:
            raise Conflict(
                f"the state of session {self._session_id} has version {head.version} by now, not {version}: read it"
                " again and decide anew",
                version=head.version,
                expected_version=version,
            )

    def _busy(self) -> Conflict:
        return Conflict(
            f"others were faster {ATTEMPTS} times in changing the state of session {self._session_id}: try again",
            session_id=self._session_id,
        )
