-- name: slowest_runs
-- description: The runs that took longest.
-- param: since = 7 days
-- param: limit = 10
-- First which ones, by as few columns as that takes; then what else is told of them.
WITH slowest AS (
    SELECT run_id, ended
    FROM runs
    WHERE ended >= ago($since) AND duration_ms IS NOT NULL
    ORDER BY duration_ms DESC, run_id
    LIMIT CAST($limit AS BIGINT)
)
SELECT run_id, workflow, started, round(duration_ms, 1) AS duration_ms, round(ttft_ms, 1) AS ttft_ms, status, error, agents
FROM runs SEMI JOIN slowest USING (run_id, ended)
WHERE ended >= ago($since)
ORDER BY runs.duration_ms DESC, run_id;
