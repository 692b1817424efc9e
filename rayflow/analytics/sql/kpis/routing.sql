-- name: routing
-- description: How messages found their agents: strategies, how sure they were (0 to 1), and how many of these runs failed.
WITH rows AS (
    SELECT
        kind, run_id, strategy, confidence
    FROM events
    WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ)
        AND (kind = 'run.routed' OR kind = 'run.finished' AND status = 'error')
)
SELECT
    strategy,
    count(*) AS runs,
    avg(confidence) AS confidence,
    min(confidence) AS least_confidence,
    count(*) FILTER (run_id IN (SELECT run_id FROM rows WHERE kind = 'run.finished')) AS errors
FROM rows
WHERE kind = 'run.routed'
GROUP BY strategy
ORDER BY runs DESC, strategy;
