-- name: replay_routing
-- description: Runs of a replay that are routed differently, counted by agents before and after.
SELECT agents_before, agents_after, strategy_before, strategy_after, count(*) AS runs, min(run_id) AS example
FROM replay_diff
WHERE list_contains(changed, 'routing')
GROUP BY ALL
ORDER BY runs DESC, example;
