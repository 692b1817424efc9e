-- name: scaling_history
-- description: When which pool grew or shrank, and why.
-- param: since = 7 days
SELECT
    ts,
    agent,
    CAST(data ->> '$.from' AS BIGINT) AS replicas_before,
    CAST(data ->> '$.to' AS BIGINT) AS replicas,
    strategy,
    data ->> '$.reason' AS reason
FROM events
WHERE kind = 'pool.scaled' AND ts >= ago($since)
ORDER BY ts, agent;
