-- name: cost_by_tenant
-- description: Calls, tokens and cost (USD) of each tenant; unpriced calls are of models without a price.
-- param: since = 7 days
SELECT
    tenant,
    count(*) AS calls,
    CAST(coalesce(sum(prompt_tokens), 0) AS BIGINT) AS prompt_tokens,
    CAST(coalesce(sum(completion_tokens), 0) AS BIGINT) AS completion_tokens,
    round(coalesce(sum(cost_usd), 0), 6) AS cost_usd,
    count(*) FILTER (cost_usd IS NULL AND prompt_tokens IS NOT NULL) AS unpriced
FROM model_calls
WHERE ended >= ago($since)
GROUP BY tenant
ORDER BY cost_usd DESC, calls DESC, tenant;
