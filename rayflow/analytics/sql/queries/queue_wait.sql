-- name: queue_wait
-- description: How long parts waited for a replica (milliseconds), by agent and class of service.
-- param: since = 7 days
SELECT
    agent,
    priority,
    count(*) AS parts,
    round(avg(queue_ms), 1) AS mean_ms,
    round(quantile_cont(queue_ms, 0.50), 1) AS p50_ms,
    round(quantile_cont(queue_ms, 0.95), 1) AS p95_ms,
    round(max(queue_ms), 1) AS max_ms
FROM events
WHERE kind = 'agent.started' AND ts >= ago($since)
GROUP BY agent, priority
ORDER BY p95_ms DESC, agent, priority;
