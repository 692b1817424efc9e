-- name: feedback_summary
-- description: What people thought of the answers of each agent: thumbs, mean score (-1 to 1) and comments.
-- param: since = 7 days
SELECT
    agent,
    count(*) AS given,
    count(*) FILTER (thumb = 'up') AS thumbs_up,
    count(*) FILTER (thumb = 'down') AS thumbs_down,
    round(avg(score), 3) AS mean_score,
    count(comment) AS comments,
    arg_max(comment, ts) FILTER (comment IS NOT NULL) AS last_comment
FROM feedback
WHERE ts >= ago($since)
GROUP BY agent
ORDER BY given DESC, agent;
