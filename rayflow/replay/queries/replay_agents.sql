-- name: replay_agents
-- description: Latency, tokens and cost of a replay before and after, by the agents that answer now; where both are known.
SELECT
    agents_after AS agents,
    count(*) AS runs,
    median(latency_before_ms) FILTER (latency_after_ms IS NOT NULL) AS latency_before_ms,
    median(latency_after_ms) FILTER (latency_before_ms IS NOT NULL) AS latency_after_ms,
    CAST(sum(prompt_tokens_before + completion_tokens_before) FILTER (prompt_tokens_after IS NOT NULL) AS BIGINT)
        AS tokens_before,
    CAST(sum(prompt_tokens_after + completion_tokens_after) FILTER (prompt_tokens_before IS NOT NULL) AS BIGINT)
        AS tokens_after,
    sum(cost_usd_before) FILTER (cost_usd_after IS NOT NULL) AS cost_before_usd,
    sum(cost_usd_after) FILTER (cost_usd_before IS NOT NULL) AS cost_after_usd
FROM replay_diff
WHERE replayed AND agents_after IS NOT NULL
GROUP BY ALL
ORDER BY runs DESC, agents;
