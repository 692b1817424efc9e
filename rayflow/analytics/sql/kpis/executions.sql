-- name: executions
-- description: The last runs in which an agent took part (of all agents where none is named): status, times (ms), tokens, and cost (USD).
WITH parts AS (
    SELECT run_id, list_sort(list(DISTINCT agent) FILTER (kind = 'agent.finished')) AS agents, sum(cost_usd) AS total_cost
    FROM events
    WHERE kind IN ('agent.finished', 'model.finished') AND run_id IS NOT NULL
    GROUP BY run_id
)
SELECT
    ended.run_id, ended.ts AS ended, workflow, coalesce(agents, []) AS agents, session_id, user_id, tenant, status, error,
    duration_ms, prompt_tokens, completion_tokens, total_cost
FROM (SELECT * FROM events WHERE kind = 'run.finished') AS ended LEFT JOIN parts USING (run_id)
WHERE $agent = '' OR list_contains(coalesce(agents, []), $agent)
ORDER BY ended.ts DESC, ended.run_id DESC
LIMIT CAST($limit AS BIGINT);
