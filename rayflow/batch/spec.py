"""What a job is: all that must be known to run it, or to go on with it, in any process and on any day.

The spec lies in `job.json` of the job's folder. What decides the rows and their answers (`identity`) cannot change
while a job lives; how fast and how long it runs can, and may be given anew with each start (`Limits`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from rayflow.batch.inputs.bounds import Bounds
from rayflow.chat import NO_PARAMS, ModelParams

if TYPE_CHECKING:
    from rayflow.config.schema import WorkflowConfig

Mode = Literal["replay", "prompt", "judge"]
"""How a row is run. `replay`: its user turns one after the other in one conversation; what assistants said in the file
is not sent. `prompt`: one run; a list of messages is sent as it stands, and the last one is to be answered. `judge`:
one run; the row's conversation is what `judging.instruction` speaks about."""


class Inputs(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the rows come from. `paths`: files, folders, globs, addresses of a file system, or "-" for standard input.
    `format`: "" tells it by the name. `fields`, `id_fields`: names to look under, in this order; [] means the usual
    ones. `role_field`, `content_field`: of the messages of a conversation, where they have other names than the usual
    ones."""

    paths: list[str]
    format: str = ""
    fields: list[str] = []
    id_fields: list[str] = []
    role_field: str = ""
    content_field: str = ""
    bounds: Bounds = Bounds()


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which rows of the inputs are run. `where`: a condition in SQL over the fields of a row. `sample`: so many of
    those, drawn with `seed`: always the same ones."""

    where: str = ""
    sample: int | None = None
    seed: int = 0


class Judging(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is asked about a conversation. `labels`: the answer must be one of them; [] leaves it open.
    `score`: (lowest, highest) that an answer may give."""

    instruction: str
    labels: list[str] = []
    score: tuple[float, float] | None = None


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one start may use. `limit`: only the first so many rows of the selection; a later start may have more.
    `cost_usd`: of the whole job; when it is reached the job pauses."""

    concurrency: int = 64
    limit: int | None = None
    rows_per_s: float | None = None
    tokens_per_min: int | None = None
    cost_usd: float | None = None
    retries: int = 5
    """How often a turn is sent again that was refused because something was full or not there."""
    feeders: int = 1
    """Who runs the rows: 1 is the process of the job itself; more are actors of the system, over all of its nodes."""


class JobSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One job. `workflow`, `version`: name of the workflow and a hash of what of its configuration decides answers
    (`workflow_version`)."""

    inputs: Inputs
    workflow: str = ""
    version: str = ""
    mode: Mode = "replay"
    selection: Selection = Selection()
    judging: Judging | None = None
    agent: str = ""
    """Run this agent instead of routing."""
    params: ModelParams = NO_PARAMS
    """Options for each call."""
    row_params: bool = False
    """Options in a row, under OpenAI's names, go before `params`, and `agent` in a row before `agent`."""
    system_prompt: str = ""
    """Replaces the agents' own; a row's own system message goes before it."""
    adds_instructions: bool = False
    """A row's own system message is added to the agents' prompts, as in chat completions, and replaces nothing."""
    sessions: bool = False
    """Keep a session of every row. Without, only rows of several turns have one: the price of a session is its durable
    turns, and nobody asks for that of a single prompt."""
    tenant: str = ""
    user_id: str = ""
    callback_url: str = ""
    metadata: dict[str, str] = {}
    limits: Limits = Limits()

    @property
    def identity(self) -> str:
        """Hash of what may not change between two starts of one job, the place of the input aside."""
        lasting = msgspec.structs.replace(
            self,
            inputs=msgspec.structs.replace(self.inputs, paths=[], bounds=Bounds()),
            callback_url="",
            metadata={},
            limits=Limits(),
            sessions=False,
        )
        return digest(lasting)


_OPERATION = {"replicas", "timeout_s", "balancing", "scaling"}
_CONNECTION = {"base_url", "api_key", "organization", "project", "lane", "headers", "timeouts", "retries"}
_PRICES = {"price_prompt", "price_cached_prompt", "price_completion"}


def workflow_version(config: WorkflowConfig) -> str:
    """Hash of what decides answers: agents, models, routing and how answers are joined. Where models are, how patiently
    and with how many replicas they are called may change while a job lives."""
    deciding = config.model_dump(mode="json", include={"name", "version", "agents", "models", "routing", "aggregation"})
    for section, operational in (("agents", _OPERATION), ("models", _CONNECTION | _PRICES)):
        for entry in deciding[section]:
            for key in operational:
                entry.pop(key, None)
    return digest(deciding)


def digest(value: Any) -> str:
    """Short hash of a value as JSON."""
    return hashlib.blake2b(msgspec.json.encode(value, order="deterministic"), digest_size=16).hexdigest()
