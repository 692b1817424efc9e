-- name: models
-- description: Models: calls, failures, time of a call (ms), tokens, and cost (USD).
SELECT
    model,
    count(*) AS calls,
    count(*) FILTER (status = 'error') AS errors,
    quantile_cont(duration_ms, 0.5) FILTER (status = 'ok') AS median,
    quantile_cont(duration_ms, 0.95) FILTER (status = 'ok') AS p95,
    sum(prompt_tokens) AS prompt_tokens,
    sum(completion_tokens) AS completion_tokens,
    sum(cost_usd) AS cost
FROM events
WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ)
    AND kind IN ('agent.finished', 'model.finished') AND model IS NOT NULL
GROUP BY model
ORDER BY cost DESC NULLS LAST, calls DESC, model;
