-- name: batches
-- description: Batch jobs that ran: when they began and ended, how, and how many items they answered and failed.
SELECT
    job_id,
    min(ts) FILTER (kind = 'batch.started') AS started,
    max(ts) FILTER (kind = 'batch.finished') AS ended,
    coalesce(arg_max(status, ts) FILTER (kind = 'batch.finished'), 'unfinished') AS status,
    arg_max(CAST(data ->> '$.ok' AS BIGINT), ts) FILTER (kind = 'batch.finished') AS ok,
    arg_max(CAST(data ->> '$.failed' AS BIGINT), ts) FILTER (kind = 'batch.finished') AS failed
FROM events
WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ)
    AND kind IN ('batch.started', 'batch.finished') AND job_id IS NOT NULL
GROUP BY job_id
ORDER BY started DESC NULLS LAST, job_id
LIMIT 50;
