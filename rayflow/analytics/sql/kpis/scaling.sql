-- name: scaling
-- description: Pools of replicas: how often each grew and shrank, and its sizes.
SELECT
    agent,
    count(*) FILTER (size > before) AS grown,
    count(*) FILTER (size < before) AS shrunk,
    min(least(size, before)) AS smallest,
    max(greatest(size, before)) AS largest,
    arg_max(reason, ts) AS last_reason
FROM (
    SELECT
        agent, ts, data ->> '$.reason' AS reason,
        CAST(data ->> '$.from' AS BIGINT) AS before, CAST(data ->> '$.to' AS BIGINT) AS size
    FROM events
    WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ) AND kind = 'pool.scaled'
)
GROUP BY agent
ORDER BY agent;
