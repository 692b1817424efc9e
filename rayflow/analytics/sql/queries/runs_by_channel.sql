-- name: runs_by_channel
-- description: Runs of each way in (chat, native, batch, cli, python) by outcome, and their median latency in milliseconds.
-- param: since = 7 days
SELECT
    channel,
    count(*) AS runs,
    count(*) FILTER (status = 'ok') AS ok,
    count(*) FILTER (status = 'error') AS errors,
    count(*) FILTER (status = 'cancelled') AS cancelled,
    count(*) FILTER (status = 'unfinished') AS unfinished,
    round(quantile_cont(duration_ms, 0.50), 1) AS p50_ms
FROM runs
WHERE date >= CAST(ago($since) AS DATE) AND started >= ago($since)
GROUP BY channel
ORDER BY runs DESC, channel;
