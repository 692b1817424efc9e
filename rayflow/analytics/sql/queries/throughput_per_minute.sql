-- name: throughput_per_minute
-- description: Ended runs, runs a second and completion tokens a second of each minute in which a run ended.
-- param: since = 1 day
SELECT
    time_bucket(INTERVAL 1 MINUTE, ended) AS minute,
    count(*) AS runs,
    round(count(*) / 60, 3) AS runs_per_s,
    round(coalesce(sum(completion_tokens), 0) / 60, 3) AS completion_tokens_per_s
FROM runs
WHERE ended >= ago($since)
GROUP BY minute
ORDER BY minute;
