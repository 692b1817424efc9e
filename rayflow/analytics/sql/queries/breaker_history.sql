-- name: breaker_history
-- description: When models were not called for a while, and when they were again.
-- param: since = 7 days
SELECT
    ts,
    model,
    kind,
    error,
    CAST(data ->> '$.failures' AS BIGINT) AS failures,
    CAST(coalesce(data ->> '$.open_s', data ->> '$.wait_s') AS DOUBLE) AS closed_to_calls_s,
    CAST(data ->> '$.after_s' AS DOUBLE) AS was_open_s,
    run_id
FROM events
WHERE kind IN ('breaker.opened', 'breaker.cooling', 'breaker.closed') AND ts >= ago($since)
ORDER BY ts, model;
