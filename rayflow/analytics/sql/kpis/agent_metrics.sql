-- name: agent_metrics
-- description: What the agents did, taken together.
-- figure: agent_response_time | ms | less | Mean time of an agent's part of a run, of parts that ended ok.
-- figure: agent_accuracy | share | more | Share of parts that ended ok in a run that nobody's last word on was a thumb down, of all parts that ended ok or with an error.
-- figure: delegation_rate | share | - | Share of routed runs that the agent chosen first handed on to another one.
-- figure: agent_calls | calls | - | Parts that ended ok or with an error.
WITH rows AS (
    SELECT
        kind, ts, run_id, tenant, user_id, status, score, duration_ms, strategy
    FROM events
    WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ)
        AND kind IN ('agent.finished', 'run.routed', 'feedback.given')
),
opinions AS (
    SELECT run_id, arg_max(score, ts) AS score
    FROM rows
    WHERE kind = 'feedback.given' AND score IS NOT NULL AND run_id IS NOT NULL
    GROUP BY tenant, run_id, user_id
),
parts AS (
    SELECT duration_ms, status = 'ok' AS ok, run_id IN (SELECT run_id FROM opinions WHERE score < 0) AS disliked
    FROM rows
    WHERE kind = 'agent.finished' AND status IN ('ok', 'error')
)
SELECT
    avg(duration_ms) FILTER (ok) AS agent_response_time,
    avg(CAST(ok AND NOT coalesce(disliked, false) AS INTEGER)) AS agent_accuracy,
    (SELECT avg(CAST(strategy = 'delegation' AS INTEGER)) FROM rows WHERE kind = 'run.routed') AS delegation_rate,
    count(*) AS agent_calls
FROM parts;
