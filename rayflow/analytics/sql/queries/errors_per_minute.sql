-- name: errors_per_minute
-- description: Ended runs, errors and error rate (0 to 1) of each minute in which a run ended.
-- param: since = 1 day
SELECT
    time_bucket(INTERVAL 1 MINUTE, ended) AS minute,
    count(*) AS runs,
    count(*) FILTER (status = 'error') AS errors,
    round(count(*) FILTER (status = 'error') / count(*), 4) AS error_rate
FROM runs
WHERE ended >= ago($since)
GROUP BY minute
ORDER BY minute;
