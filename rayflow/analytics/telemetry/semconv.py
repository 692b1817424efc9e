"""The names of OpenTelemetry's semantic conventions that are not names of columns (those stand in `rayflow.events`).

Pinned here: the conventions for generative AI are still in development, and a collector's dashboards should not change
because a package was updated. As of semantic-conventions 1.44 (package 0.66b2), and of the conventions for generative
AI, which have moved to a repository of their own, for what that does not have yet.
"""

from __future__ import annotations

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SCOPE = "rayflow"

# Attributes of spans.
OPERATION = "gen_ai.operation.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TOKEN_TYPE = "gen_ai.token.type"
ERROR_TYPE = "error.type"
WORKFLOW_ID = "workflow.id"
WORKFLOW_TYPE = "workflow.type"
WORKFLOW_STATUS = "workflow.status"
OWN = "rayflow."
"""In front of a column for which there is no name."""

# Operations: a span is named after its operation and what it is done with.
INVOKE_WORKFLOW = "invoke_workflow"
INVOKE_AGENT = "invoke_agent"
CHAT = "chat"
AGGREGATE = "aggregate"
"""rayflow's own: how answers of several agents become one."""

# Metrics.
WORKFLOW_DURATION = "gen_ai.workflow.duration"
AGENT_DURATION = "gen_ai.invoke_agent.duration"
OPERATION_DURATION = "gen_ai.client.operation.duration"
FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
TOKEN_USAGE = "gen_ai.client.token.usage"

WORKFLOW_BUCKETS_S = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
OPERATION_BUCKETS_S = tuple(0.01 * 2**n for n in range(14))
TOKEN_BUCKETS = tuple(float(4**n) for n in range(14))
