-- name: delegation_rate
-- description: Of the runs that routing gave each agent first: the share it handed on to another one, and that fell back to one.
-- param: since = 7 days
WITH routed AS (
    SELECT
        run_id,
        CASE strategy
            WHEN 'delegation' THEN string_split(regexp_extract(data ->> '$.reason', 'delegated (.*)$', 1), ' -> ')[1:1]
            ELSE CAST(data -> '$.agents' AS VARCHAR[])
        END AS first_agents,
        CASE strategy WHEN 'delegation' THEN data ->> '$.agents[0]' END AS handed_to
    FROM events
    WHERE kind = 'run.routed' AND ts >= ago($since)
), given AS (
    SELECT unnest(first_agents) AS agent, handed_to
    FROM routed
), failed AS (
    SELECT agent, count(DISTINCT run_id) AS runs
    FROM events
    WHERE kind = 'agent.fallback' AND ts >= ago($since) AND data ->> '$.agent' <> agent
    GROUP BY agent
)
SELECT
    agent,
    count(*) AS runs,
    count(handed_to) AS handed_on,
    round(count(handed_to) / count(*), 4) AS delegation_rate,
    mode(handed_to) AS mostly_to,
    coalesce(any_value(failed.runs), 0) AS fell_back
FROM given
LEFT JOIN failed USING (agent)
GROUP BY agent
ORDER BY delegation_rate DESC, runs DESC, agent;
