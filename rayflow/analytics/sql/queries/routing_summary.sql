-- name: routing_summary
-- description: How often each routing strategy led to which agents, with its confidence (0 to 1) and how the runs ended.
-- param: since = 7 days
SELECT
    strategy,
    agents,
    count(*) AS runs,
    round(avg(confidence), 3) AS mean_confidence,
    round(min(confidence), 3) AS min_confidence,
    count(*) FILTER (status = 'error') AS errors
FROM runs
WHERE strategy IS NOT NULL AND ended >= ago($since)
GROUP BY strategy, agents
ORDER BY runs DESC, strategy, agents;
