-- name: supervision_history
-- description: Actors that were lost, started again, given up or left out, in order.
-- param: since = 7 days
SELECT
    ts,
    kind,
    coalesce(replica, source) AS actor,
    epoch,
    coalesce(error_message, data ->> '$.reason') AS reason,
    CAST(coalesce(data ->> '$.attempt', data ->> '$.restarts') AS BIGINT) AS restarts,
    CAST(coalesce(data ->> '$.delay_s', data ->> '$.out_s') AS DOUBLE) AS wait_s
FROM events
WHERE kind IN ('actor.lost', 'actor.restarted', 'actor.parked', 'replica.ejected', 'system.adopted')
    AND ts >= ago($since)
ORDER BY ts, kind, actor;
