-- name: replay_answers
-- description: Answers that a replay changed, the least similar first.
-- param: limit = 100
SELECT run_id, round(similarity, 3) AS similarity, agents_before, agents_after, answer_before, answer_after
FROM replay_diff
WHERE list_contains(changed, 'answer')
ORDER BY similarity, run_id
LIMIT CAST($limit AS BIGINT);
