-- name: trend
-- description: The period in 48 equal steps: runs, errors, response time (ms) and cost (USD) of each. Steps without anything are left out.
WITH rows AS (
    SELECT
        least(47, CAST(floor((epoch(ts) - epoch(CAST($since AS TIMESTAMPTZ)))
            / (epoch(CAST($until AS TIMESTAMPTZ)) - epoch(CAST($since AS TIMESTAMPTZ))) * 48) AS INTEGER)) AS step,
        kind, status, duration_ms, cost_usd
    FROM events
    WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ)
        AND (kind = 'run.finished' AND status IN ('ok', 'error') OR kind IN ('agent.finished', 'model.finished'))
)
SELECT
    step,
    count(*) FILTER (kind = 'run.finished') AS runs,
    count(*) FILTER (kind = 'run.finished' AND status = 'error') AS errors,
    avg(duration_ms) FILTER (kind = 'run.finished' AND status = 'ok') AS response_time,
    quantile_cont(duration_ms, 0.95) FILTER (kind = 'run.finished' AND status = 'ok') AS response_time_p95,
    sum(cost_usd) FILTER (kind <> 'run.finished') AS cost
FROM rows
GROUP BY step
ORDER BY step;
