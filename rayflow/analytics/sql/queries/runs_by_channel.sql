-- name: runs_by_channel
-- description: Runs of each way in (chat, native, batch, cli, python) by outcome, and their median latency in milliseconds.
-- param: since = 7 days
WITH ended AS (
    SELECT run_id, channel, status, duration_ms FROM events WHERE kind = 'run.finished' AND ts >= ago($since)
), unfinished AS (
    -- Of `runs`, all of which would be looked up to tell how these were routed, too.
    SELECT DISTINCT run_id, channel, 'unfinished', CAST(NULL AS DOUBLE)
    FROM events ANTI JOIN ended USING (run_id)
    WHERE kind = 'run.started' AND ts >= ago($since)
)
SELECT
    channel,
    count(*) AS runs,
    count(*) FILTER (status = 'ok') AS ok,
    count(*) FILTER (status = 'error') AS errors,
    count(*) FILTER (status = 'cancelled') AS cancelled,
    count(*) FILTER (status = 'unfinished') AS unfinished,
    round(quantile_cont(duration_ms, 0.50), 1) AS p50_ms
FROM (FROM ended UNION ALL FROM unfinished)
GROUP BY channel
ORDER BY runs DESC, channel;
