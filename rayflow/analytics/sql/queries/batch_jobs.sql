-- name: batch_jobs
-- description: Batch jobs, the latest first: how far they are, what they used, and their rate (items a second).
-- param: limit = 20
SELECT
    job_id,
    status,
    started,
    ended,
    items,
    ok,
    failed,
    runs,
    round(runs / nullif(epoch_us(coalesce(ended, now()) - started) / 1e6, 0), 3) AS items_per_s,
    prompt_tokens,
    completion_tokens,
    round(cost_usd, 6) AS cost_usd,
    paused_by
FROM batches
ORDER BY batches.started DESC, job_id
LIMIT CAST($limit AS BIGINT);
