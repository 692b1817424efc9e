-- name: cost_by_model
-- description: Tokens and cost (USD) of each model, by what it was called for, and the cost of a thousand calls.
-- param: since = 7 days
SELECT
    provider,
    model,
    purpose,
    count(*) AS calls,
    CAST(coalesce(sum(prompt_tokens), 0) AS BIGINT) AS prompt_tokens,
    CAST(coalesce(sum(cached_tokens), 0) AS BIGINT) AS cached_tokens,
    CAST(coalesce(sum(completion_tokens), 0) AS BIGINT) AS completion_tokens,
    round(coalesce(sum(cost_usd), 0), 6) AS cost_usd,
    round(avg(cost_usd) * 1000, 4) AS usd_per_1000_calls
FROM model_calls
WHERE ended >= ago($since)
GROUP BY provider, model, purpose
ORDER BY cost_usd DESC, calls DESC, model, purpose;
