-- name: latency_by_agent
-- description: Requests, errors and latency (median and 95th percentile, milliseconds) of each agent.
-- param: since = 7 days
SELECT
    agent,
    count(*) AS requests,
    count(*) FILTER (status = 'error') AS errors,
    round(quantile_cont(duration_ms, 0.50), 1) AS p50_ms,
    round(quantile_cont(duration_ms, 0.95), 1) AS p95_ms,
    round(quantile_cont(ttft_ms, 0.50), 1) AS ttft_p50_ms,
    round(quantile_cont(ttft_ms, 0.95), 1) AS ttft_p95_ms
FROM steps
WHERE ended >= ago($since)
GROUP BY agent
ORDER BY requests DESC, agent;
