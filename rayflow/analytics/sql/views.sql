-- The views of the log (docs/queries.md). They stand on `segments`, which rayflow.analytics.database defines first:
-- all rows of the snapshot's files with the columns of the schema, and the partition's `date`.

CREATE VIEW events AS
SELECT
    ts, date, kind, source, run_id, seq, workflow, agent, replica, model, tenant, user_id, session_id, channel, job_id,
    item_id, status, error, error_message, duration_ms, queue_ms, ttft_ms, prompt_tokens, completion_tokens, confidence,
    strategy, epoch, event_id, data
FROM segments;

-- One pass and no join: a run's facts are spread over three events, each fact in one of them.
CREATE VIEW runs AS
SELECT
    run_id,
    any_value(workflow)      AS workflow,
    min(ts)                  AS started,
    max(ts)                  FILTER (kind = 'run.finished') AS ended,
    coalesce(any_value(status) FILTER (kind = 'run.finished'), 'unfinished') AS status,
    any_value(error)         FILTER (kind = 'run.finished') AS error,
    any_value(error_message) FILTER (kind = 'run.finished') AS error_message,
    any_value(duration_ms)   FILTER (kind = 'run.finished') AS duration_ms,
    any_value(ttft_ms)       FILTER (kind = 'run.finished') AS ttft_ms,
    any_value(prompt_tokens) FILTER (kind = 'run.finished') AS prompt_tokens,
    any_value(completion_tokens) FILTER (kind = 'run.finished') AS completion_tokens,
    coalesce(any_value(TRY_CAST(data -> '$.agents' AS VARCHAR[])) FILTER (kind = 'run.routed'), []) AS agents,
    any_value(strategy)      FILTER (kind = 'run.routed') AS strategy,
    any_value(confidence)    FILTER (kind = 'run.routed') AS confidence,
    any_value(session_id)    AS session_id,
    any_value(tenant)        AS tenant,
    any_value(user_id)       AS user_id,
    any_value(channel)       AS channel,
    any_value(job_id)        AS job_id,
    any_value(item_id)       AS item_id
FROM segments
WHERE kind IN ('run.started', 'run.routed', 'run.finished') AND run_id IS NOT NULL
GROUP BY run_id;

CREATE VIEW turns AS
SELECT
    session_id,
    CAST(data ->> '$.turn' AS BIGINT) AS turn,
    data ->> '$.role' AS role,
    run_id,
    agent,
    CAST(data ->> '$.chars' AS BIGINT) AS chars,
    ts
FROM segments
WHERE kind = 'turn.committed';
