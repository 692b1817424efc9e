-- name: slowest_runs
-- description: The runs that took longest.
-- param: since = 7 days
-- param: limit = 10
-- Of `events`: DuckDB looks up the other columns for these rows only, where nothing of them is computed for all.
SELECT
    run_id,
    workflow,
    began(ts, duration_ms) AS started,
    round(duration_ms, 1) AS duration_ms,
    round(ttft_ms, 1) AS ttft_ms,
    status,
    error,
    coalesce(TRY_CAST(data -> '$.agents' AS VARCHAR[]), []) AS agents
FROM (
    FROM events
    WHERE kind = 'run.finished' AND ts >= ago($since) AND duration_ms IS NOT NULL
    ORDER BY duration_ms DESC, run_id
    LIMIT CAST($limit AS BIGINT)
) AS slowest
ORDER BY slowest.duration_ms DESC, run_id;
