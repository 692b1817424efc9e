-- name: sessions_most_active
-- description: The sessions with most turns.
-- param: since = 7 days
-- param: limit = 10
SELECT
    session_id,
    count(*) AS turns,
    count(*) FILTER (role = 'user') AS user_turns,
    count(DISTINCT run_id) AS runs,
    CAST(coalesce(sum(chars), 0) AS BIGINT) AS chars,
    min(ts) AS first_turn,
    max(ts) AS last_turn
FROM turns
WHERE ts >= ago($since)
GROUP BY session_id
ORDER BY turns DESC, session_id
LIMIT CAST($limit AS BIGINT);
