-- The views of the log (docs/queries.md). They stand on `segments`, which rayflow.analytics.database defines first:
-- every event once, with the columns of the schema, and the partition's `date`.
--
-- How they are made to be as fast as the SQL that one would write for a single question:
-- * What an event knows about its run, it says itself. So a run, a step or a call of a model is the one event that ended
--   it, and no rows are grouped or joined to find it. What has not ended is a branch of its own; its `ended` is the
--   constant NULL, so that a question with `ended >= ...` or `ended IS NOT NULL` does not read that branch at all.
-- * `date` is handed through as it is: a filter on it leaves out files before they are opened.
-- * `data` is read and parsed only for the columns that are made of it, where they are asked for.

-- ago('7 days'): the moment so long before now. A constant for one question, so files and row groups are left out by it.
CREATE MACRO ago(span) AS now() - CAST(span AS INTERVAL);

-- When something began that has just ended: monotonic clocks measure how long it took.
CREATE MACRO began(ended, took_ms) AS ended - to_microseconds(CAST(coalesce(took_ms, 0) * 1000 AS BIGINT));

-- run_began('run_...'): the moment that the id of a run tells, with which files of before it are left out; 1970 for an id
-- that is not of rayflow.
CREATE MACRO run_began(id) AS coalesce(
    make_timestamptz(
        1000 * TRY_CAST('0x' || regexp_extract(id, '^run_([0-9a-f]{12})[0-9a-f]{32}$', 1) AS BIGINT)
    ),
    TIMESTAMPTZ 'epoch'
);

CREATE VIEW events AS
SELECT
    ts, date, kind, source, node, run_id, seq, trace_id, span_id, workflow, agent, replica, provider, model, tenant,
    user_id, session_id, channel, priority, job_id, item_id, status, error, error_message, finish_reason, attempt,
    duration_ms, queue_ms, ttft_ms, tokens_per_s, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens,
    cost_usd, confidence, score, strategy, content, epoch, event_id, data
FROM segments;

CREATE VIEW runs AS
SELECT
    run_id, workflow,
    began(ts, duration_ms) AS started,
    ts AS ended,
    status, error, error_message, duration_ms, ttft_ms, prompt_tokens, cached_tokens, completion_tokens,
    reasoning_tokens, cost_usd,
    coalesce(TRY_CAST(data -> '$.agents' AS VARCHAR[]), []) AS agents,
    strategy, confidence,
    coalesce(TRY_CAST(data ->> '$.cached' AS BOOLEAN), false) AS cached,
    session_id, tenant, user_id, channel, priority, job_id, item_id, trace_id, date
FROM segments
WHERE kind = 'run.finished'
UNION ALL
SELECT
    run_id, any_value(workflow), min(ts), NULL, 'unfinished', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    coalesce(any_value(TRY_CAST(data -> '$.agents' AS VARCHAR[])) FILTER (kind = 'run.routed'), []),
    any_value(strategy), any_value(confidence), false, any_value(session_id), any_value(tenant), any_value(user_id),
    any_value(channel), any_value(priority), any_value(job_id), any_value(item_id), any_value(trace_id), date
-- Two equalities leave rows out as they are read; one IN does not.
FROM (FROM segments WHERE kind = 'run.started' UNION ALL FROM segments WHERE kind = 'run.routed')
ANTI JOIN (SELECT run_id FROM segments WHERE kind = 'run.finished') USING (run_id)
WHERE run_id IS NOT NULL
GROUP BY run_id, date
HAVING bool_or(kind = 'run.started');

-- A part that fell back to another agent goes on as that agent's; one that was retried has started more than once.
CREATE VIEW steps AS
SELECT
    run_id, agent, replica,
    began(ts, duration_ms) AS started,
    ts AS ended,
    status, error, error_message, attempt, queue_ms, duration_ms, ttft_ms, tokens_per_s, provider, model, finish_reason,
    prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost_usd, workflow, session_id, tenant, user_id,
    channel, priority, job_id, item_id, date
FROM segments
WHERE kind = 'agent.finished'
UNION ALL
SELECT
    run_id, agent, arg_max(replica, seq), max(ts), NULL, 'unfinished', NULL, NULL, max(attempt), arg_max(queue_ms, seq),
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, any_value(workflow), any_value(session_id),
    any_value(tenant), any_value(user_id), any_value(channel), any_value(priority), any_value(job_id),
    any_value(item_id), date
FROM (FROM segments WHERE kind = 'agent.started')
ANTI JOIN (SELECT run_id, agent FROM segments WHERE kind IN ('agent.finished', 'agent.fallback')) USING (run_id, agent)
GROUP BY run_id, agent, date;

-- The call that an agent's answer came from is told by the end of its part; all others are told one by one.
CREATE VIEW model_calls AS
SELECT
    began(ts, duration_ms) AS started,
    ts AS ended,
    run_id, agent, replica, provider, model,
    CASE kind WHEN 'agent.finished' THEN 'answer' ELSE coalesce(data ->> '$.purpose', 'answer') END AS purpose,
    attempt, status, error, error_message, finish_reason, duration_ms, ttft_ms, tokens_per_s, prompt_tokens,
    cached_tokens, completion_tokens, reasoning_tokens, cost_usd, workflow, session_id, tenant, user_id, channel,
    priority, job_id, item_id, date
FROM segments
WHERE kind IN ('agent.finished', 'model.finished') AND model IS NOT NULL;

CREATE VIEW turns AS
SELECT
    session_id,
    CAST(data ->> '$.turn' AS BIGINT) AS turn,
    data ->> '$.role' AS role,
    run_id,
    agent,
    CAST(data ->> '$.chars' AS BIGINT) AS chars,
    coalesce(TRY_CAST(data ->> '$.partial' AS BOOLEAN), false) AS partial,
    tenant, user_id, ts, date
FROM segments
WHERE kind = 'turn.committed';

CREATE VIEW sessions AS
SELECT
    session_id,
    tenant,
    any_value(user_id) AS user_id,
    min(ts) AS started,
    max(ts) AS last_active,
    max(ts) FILTER (kind = 'session.deleted') AS deleted,
    count(*) FILTER (kind = 'turn.committed') AS turns,
    count(*) FILTER (kind = 'run.finished') AS runs,
    count(*) FILTER (kind = 'run.finished' AND status = 'error') AS errors,
    sum(duration_ms) FILTER (kind = 'run.finished') AS duration_ms,
    CAST(coalesce(sum(prompt_tokens) FILTER (kind = 'run.finished'), 0) AS BIGINT) AS prompt_tokens,
    CAST(coalesce(sum(completion_tokens) FILTER (kind = 'run.finished'), 0) AS BIGINT) AS completion_tokens,
    sum(cost_usd) FILTER (kind = 'run.finished') AS cost_usd,
    avg(score) FILTER (kind = 'feedback.given') AS score
FROM segments
WHERE session_id IS NOT NULL
    AND kind IN ('session.created', 'session.deleted', 'turn.committed', 'run.finished', 'feedback.given')
GROUP BY session_id, tenant;

CREATE VIEW feedback AS
SELECT
    ts, run_id, session_id, agent, workflow, tenant, user_id, score, data ->> '$.thumb' AS thumb,
    data ->> '$.comment' AS comment, date
FROM segments
WHERE kind = 'feedback.given';

-- From the moment a measure was beyond its limit to the one it was back; NULL while it is not.
CREATE VIEW alerts AS
WITH told AS NOT MATERIALIZED (
    SELECT
        kind, ts, date, score, workflow, data ->> '$.metric' AS metric, data ->> '$.direction' AS direction,
        CAST(data ->> '$.threshold' AS DOUBLE) AS threshold, CAST(data ->> '$.window_s' AS DOUBLE) AS window_s,
        concat_ws('|', workflow, metric, direction, threshold, window_s) AS rule
    FROM segments
    WHERE kind IN ('alert.raised', 'alert.cleared')
)
SELECT
    raised.metric, raised.direction, raised.threshold, raised.window_s, raised.score AS value, raised.ts AS raised,
    cleared.ts AS cleared, raised.workflow, raised.date
FROM (FROM told WHERE kind = 'alert.raised') AS raised
ASOF LEFT JOIN (FROM told WHERE kind = 'alert.cleared') AS cleared
    ON raised.rule = cleared.rule AND raised.ts <= cleared.ts;

CREATE VIEW batches AS
SELECT
    job_id,
    min(ts) FILTER (kind = 'batch.started') AS started,
    max(ts) FILTER (kind = 'batch.finished') AS ended,
    CASE arg_max(kind, ts) FILTER (kind LIKE 'batch.%')
        WHEN 'batch.finished' THEN arg_max(status, ts) FILTER (kind = 'batch.finished')
        WHEN 'batch.paused' THEN 'paused'
        ELSE 'running'
    END AS status,
    arg_max(error, ts) FILTER (kind = 'batch.paused') AS paused_by,
    any_value(data ->> '$.input') FILTER (kind = 'batch.started') AS input,
    any_value(CAST(data ->> '$.items' AS BIGINT)) FILTER (kind = 'batch.started') AS items,
    arg_max(CAST(data ->> '$.ok' AS BIGINT), ts) FILTER (kind = 'batch.finished') AS ok,
    arg_max(CAST(data ->> '$.failed' AS BIGINT), ts) FILTER (kind = 'batch.finished') AS failed,
    count(*) FILTER (kind = 'run.finished') AS runs,
    CAST(coalesce(sum(prompt_tokens) FILTER (kind = 'run.finished'), 0) AS BIGINT) AS prompt_tokens,
    CAST(coalesce(sum(completion_tokens) FILTER (kind = 'run.finished'), 0) AS BIGINT) AS completion_tokens,
    sum(cost_usd) FILTER (kind = 'run.finished') AS cost_usd
FROM segments
WHERE job_id IS NOT NULL
    AND kind IN ('batch.started', 'batch.paused', 'batch.resumed', 'batch.finished', 'run.finished')
GROUP BY job_id
HAVING bool_or(kind <> 'run.finished');
