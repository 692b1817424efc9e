-- name: slowest_steps
-- description: The parts of agents that took longest, with what they waited for a replica (milliseconds).
-- param: since = 7 days
-- param: limit = 10
SELECT
    run_id,
    agent,
    replica,
    model,
    started,
    round(duration_ms, 1) AS duration_ms,
    round(queue_ms, 1) AS queue_ms,
    round(ttft_ms, 1) AS ttft_ms,
    attempt,
    completion_tokens,
    status,
    error
FROM steps
WHERE ended >= ago($since) AND duration_ms IS NOT NULL
ORDER BY steps.duration_ms DESC, run_id, agent
LIMIT CAST($limit AS BIGINT);
