-- name: tenants
-- description: Tenants: runs, errors, response time (ms), tokens, and cost (USD) of all calls of models made for them.
WITH rows AS (
    SELECT
        kind, tenant, status, duration_ms, prompt_tokens, completion_tokens, cost_usd
    FROM events
    WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ)
        AND (kind = 'run.finished' AND status IN ('ok', 'error') OR kind IN ('agent.finished', 'model.finished'))
)
SELECT
    tenant,
    count(*) FILTER (kind = 'run.finished') AS runs,
    count(*) FILTER (kind = 'run.finished' AND status = 'error') AS errors,
    avg(duration_ms) FILTER (kind = 'run.finished' AND status = 'ok') AS response_time,
    sum(prompt_tokens) FILTER (kind <> 'run.finished') AS prompt_tokens,
    sum(completion_tokens) FILTER (kind <> 'run.finished') AS completion_tokens,
    sum(cost_usd) FILTER (kind <> 'run.finished') AS cost
FROM rows
GROUP BY tenant
ORDER BY runs DESC, tenant;
