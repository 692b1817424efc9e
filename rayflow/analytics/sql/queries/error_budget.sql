-- name: error_budget
-- description: How much of the errors that an objective allows each workflow has used: 1 is all of them.
-- param: since = 7 days
-- param: objective = 0.99
SELECT
    workflow,
    count(*) AS runs,
    count(*) FILTER (status = 'error') AS errors,
    round(1 - count(*) FILTER (status = 'error') / count(*), 5) AS success_rate,
    round(count(*) * (1 - CAST($objective AS DOUBLE)), 1) AS allowed,
    round(count(*) FILTER (status = 'error') / nullif(count(*) * (1 - CAST($objective AS DOUBLE)), 0), 3) AS used
FROM runs
WHERE ended >= ago($since) AND status <> 'cancelled'
GROUP BY workflow
ORDER BY used DESC NULLS LAST, workflow;
