-- name: retries_and_fallbacks
-- description: How often parts of each agent were tried again, asked a second replica, fell back or gave up, by error.
-- param: since = 7 days
SELECT
    agent,
    error,
    count(*) FILTER (kind = 'agent.retried') AS retries,
    count(*) FILTER (kind = 'agent.hedged') AS hedges,
    count(*) FILTER (kind = 'agent.fallback' AND data ->> '$.degraded' IS NULL) AS fallbacks,
    count(*) FILTER (kind = 'agent.fallback' AND data ->> '$.degraded' = 'true') AS gave_up,
    count(DISTINCT run_id) AS runs
FROM events
WHERE kind IN ('agent.retried', 'agent.hedged', 'agent.fallback') AND ts >= ago($since)
GROUP BY agent, error
ORDER BY runs DESC, agent, error;
