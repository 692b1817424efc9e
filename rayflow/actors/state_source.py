"""What a model is told of a session's working state, read anew for every run: clients change it in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from rayflow.config.schema import StateConfig
from rayflow.messages import ReadRecords, Records, RunRequest
from rayflow.messages.records import of_session
from rayflow.policies.state import HEAD, STATE, State, state_text


class StateSource:
    """A `ContextSource`. `read` asks the store that has the records."""

    name = "working_state"

    def __init__(self, config: StateConfig, read: Callable[[ReadRecords], Awaitable[Records]]) -> None:
        self._config = config
        self._read = read

    async def text(self, request: RunRequest) -> str:
        return await self.of(request.tenant, request.session_id)

    async def of(self, tenant: str, session_id: str) -> str:
        """The text for any run of this session; "" where there is nothing to say."""
        found = (await self._read(ReadRecords(tenant, of_session(session_id), STATE, [HEAD]))).records
        state = msgspec.json.decode(found[0].value, type=State) if found else State()
        return state_text(self._config, state)
