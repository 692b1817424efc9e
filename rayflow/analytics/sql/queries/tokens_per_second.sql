-- name: tokens_per_second
-- description: How fast each model wrote (tokens a second: median, slowest twentieth) and began to (milliseconds).
-- param: since = 7 days
SELECT
    model,
    count(*) AS calls,
    round(quantile_cont(tokens_per_s, 0.50), 1) AS p50_tokens_per_s,
    round(quantile_cont(tokens_per_s, 0.05), 1) AS p05_tokens_per_s,
    round(quantile_cont(ttft_ms, 0.50), 1) AS ttft_p50_ms,
    round(quantile_cont(ttft_ms, 0.95), 1) AS ttft_p95_ms
FROM model_calls
WHERE ended >= ago($since) AND status = 'ok'
GROUP BY model
ORDER BY calls DESC, model;
