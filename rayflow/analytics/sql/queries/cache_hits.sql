-- name: cache_hits
-- description: Runs answered from the cache of results, and input tokens that endpoints had in theirs, day by day.
-- param: since = 7 days
WITH answered AS (
    SELECT date, workflow, count(*) AS runs, count(*) FILTER (cached) AS cached
    FROM runs
    WHERE ended >= ago($since) AND status = 'ok'
    GROUP BY date, workflow
), called AS (
    SELECT date, workflow, sum(prompt_tokens) AS prompt_tokens, sum(cached_tokens) AS cached_tokens
    FROM model_calls
    WHERE ended >= ago($since)
    GROUP BY date, workflow
)
SELECT
    date,
    workflow,
    runs,
    cached,
    round(cached / runs, 4) AS hit_rate,
    CAST(coalesce(prompt_tokens, 0) AS BIGINT) AS prompt_tokens,
    CAST(coalesce(cached_tokens, 0) AS BIGINT) AS cached_tokens,
    round(cached_tokens / nullif(prompt_tokens, 0), 4) AS token_hit_rate
FROM answered
LEFT JOIN called USING (date, workflow)
ORDER BY date, workflow;
