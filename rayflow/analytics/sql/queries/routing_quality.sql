-- name: routing_quality
-- description: What came of each routing strategy's choices: errors, agents that passed runs on, feedback (-1 to 1).
-- param: since = 7 days
-- param: doubt = 0.5
WITH passed_on AS (
    SELECT DISTINCT run_id FROM events WHERE kind = 'agent.fallback' AND ts >= ago($since)
), scored AS (
    SELECT run_id, avg(score) AS score FROM feedback WHERE ts >= ago($since) AND run_id IS NOT NULL GROUP BY run_id
)
SELECT
    strategy,
    count(*) AS runs,
    round(avg(confidence), 3) AS mean_confidence,
    round(count(*) FILTER (confidence < CAST($doubt AS DOUBLE)) / count(*), 4) AS in_doubt,
    round(count(*) FILTER (status = 'error') / count(*), 4) AS error_rate,
    round(count(passed_on.run_id) / count(*), 4) AS passed_on,
    count(scored.score) AS scored,
    round(avg(scored.score), 3) AS mean_score
FROM runs
LEFT JOIN passed_on USING (run_id)
LEFT JOIN scored USING (run_id)
WHERE strategy IS NOT NULL AND ended >= ago($since)
GROUP BY strategy
ORDER BY runs DESC, strategy;
