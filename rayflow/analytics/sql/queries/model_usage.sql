-- name: model_usage
-- description: Calls of each model: how they ended, how long they took (milliseconds), and what they used.
-- param: since = 7 days
SELECT
    model,
    count(*) AS calls,
    count(*) FILTER (status = 'error') AS errors,
    round(count(*) FILTER (status = 'error') / count(*), 4) AS error_rate,
    count(*) FILTER (finish_reason = 'length') AS cut_off,
    round(quantile_cont(duration_ms, 0.50), 1) AS p50_ms,
    round(quantile_cont(duration_ms, 0.95), 1) AS p95_ms,
    CAST(coalesce(sum(prompt_tokens), 0) AS BIGINT) AS prompt_tokens,
    CAST(coalesce(sum(completion_tokens), 0) AS BIGINT) AS completion_tokens,
    CAST(coalesce(sum(reasoning_tokens), 0) AS BIGINT) AS reasoning_tokens
FROM model_calls
WHERE ended >= ago($since)
GROUP BY model
ORDER BY calls DESC, model;
