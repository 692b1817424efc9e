-- name: supervision
-- description: Actors that died: how often each was lost, started again and parked, and what was said of its last death.
SELECT
    source AS actor,
    count(*) FILTER (kind IN ('actor.lost', 'actor.parked')) AS deaths,
    count(*) FILTER (kind = 'actor.restarted') AS restarts,
    count(*) FILTER (kind = 'actor.parked') AS parked,
    arg_max(error_message, ts) AS last_death
FROM events
WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ)
    AND kind IN ('actor.lost', 'actor.restarted', 'actor.parked')
GROUP BY source
ORDER BY deaths DESC, actor
LIMIT 50;
