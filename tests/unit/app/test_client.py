"""What a client of the system streams is always exactly the answer."""

from __future__ import annotations

from rayflow.app.client import SystemClient
from rayflow.chat import Message, Usage
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.load import from_dict
from rayflow.messages import RunRequest, RunResult, Token


async def streamed(numbers: list[int]) -> list[str]:
    """Texts that come through when the replica's tokens arrive with these numbers."""
    fabric = InProcessFabric()
    client = SystemClient(fabric, "client/0", from_dict({"name": "w", "agents": [{"name": "a"}]}))

    async def run(request: RunRequest) -> RunResult:
        for number in numbers:
            fabric.tell("client/0", Token(request.run_id, number, "a", [f"{number} "]))
        return RunResult(request.run_id, request.session_id, "all", "stop", Usage(), "m", ["a"])

    fabric.bind("router/0", {RunRequest: run})
    request = RunRequest("run_1", "s", [Message("user", "hi")], client="client/0", stream=True)
    return [item.text for item in [item async for item in client.stream(request)] if isinstance(item, Token)]


async def test_tokens_come_through_in_order() -> None:
    assert await streamed([5, 6, 7]) == ["5 ", "6 ", "7 "]


async def test_after_a_gap_nothing_is_forwarded_and_the_result_holds_the_rest() -> None:
    assert await streamed([5, 6, 8, 9]) == ["5 ", "6 "]
