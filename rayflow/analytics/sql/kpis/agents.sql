-- name: agents
-- description: Agents: calls, response time (ms), time in the queue (ms), accuracy, and the share of their messages that another agent handed on to them.
WITH rows AS (
    SELECT
        kind, ts, run_id, tenant, user_id, agent, status, score, duration_ms, queue_ms, strategy,
        CASE WHEN kind = 'run.routed' THEN TRY_CAST(data -> '$.agents' AS VARCHAR[]) END AS chosen
    FROM events
    WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ)
        AND kind IN ('agent.finished', 'run.routed', 'feedback.given')
),
disliked AS (
    SELECT DISTINCT run_id
    FROM (
        SELECT run_id, arg_max(score, ts) AS score
        FROM rows
        WHERE kind = 'feedback.given' AND score IS NOT NULL AND run_id IS NOT NULL
        GROUP BY tenant, run_id, user_id
    )
    WHERE score < 0
),
routed AS (
    SELECT agent, avg(CAST(strategy = 'delegation' AS INTEGER)) AS delegated
    FROM (
        SELECT unnest(chosen) AS agent, strategy
        FROM rows
        WHERE kind = 'run.routed'
    )
    GROUP BY agent
)
SELECT
    agent,
    count(*) AS calls,
    count(*) FILTER (status = 'error') AS errors,
    avg(duration_ms) FILTER (status = 'ok') AS response_time,
    quantile_cont(duration_ms, 0.95) FILTER (status = 'ok') AS response_time_p95,
    quantile_cont(queue_ms, 0.95) AS queue_p95,
    avg(CAST(status = 'ok' AND NOT coalesce(run_id IN (SELECT run_id FROM disliked), false) AS INTEGER)) AS accuracy,
    any_value(delegated) AS delegated
FROM rows LEFT JOIN routed USING (agent)
WHERE kind = 'agent.finished' AND status IN ('ok', 'error')
GROUP BY agent
ORDER BY calls DESC, agent;
