"""What the client of a stream was given of an answer, agent by agent, and what it is still owed.

One agent's tokens are its answer, so the rest of them is due. What several agents say is nobody's stream: it follows as
one piece of a node of its own, after the tokens of the agent that leads, where one does.
"""

from __future__ import annotations

from collections import defaultdict

from rayflow.api.runs import kept, rest
from rayflow.errors import WorkflowError
from rayflow.messages import RunResult

AGGREGATOR = "aggregator"
"""The node that speaks for several agents."""


class Said(defaultdict[str, list[str]]):
    """The pieces that were sent, by agent."""

    def __init__(self) -> None:
        super().__init__(list)

    def due(self, result: RunResult) -> tuple[str, str]:
        """Who says the rest of the answer, and the rest. Raises `ExecutionError` when what was sent is not its
        beginning."""
        begun = result.streamed or self._alone(result)
        left = rest("".join(self[begun]), result.content)
        return begun if len(result.agents) == 1 else AGGREGATOR, left

    def due_after(self, error: WorkflowError) -> tuple[str, str]:
        """The same of what is kept of an answer that broke off."""
        if len(self) != 1:
            return "", ""
        ((agent, texts),) = self.items()
        return agent, kept("".join(texts), error)

    def _alone(self, result: RunResult) -> str:
        """The agent whose words alone the joined answer is, where it said them just so."""
        if len(result.agents) == 1 and result.content.startswith("".join(self[result.agents[0]])):
            return result.agents[0]
        return AGGREGATOR
