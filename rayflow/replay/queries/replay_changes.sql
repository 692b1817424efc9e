-- name: replay_changes
-- description: The runs that a replay changed, oldest first, with what is different about each.
-- param: limit = 100
SELECT
    run_id, session_id, started, changed, agents_before, agents_after, status_before, status_after, error_after,
    round(similarity, 3) AS similarity, answer_before, answer_after, cost_usd_before, cost_usd_after
FROM replay_diff
WHERE len(changed) > 0
ORDER BY started, run_id
LIMIT CAST($limit AS BIGINT);
