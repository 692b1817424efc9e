-- name: replay_left_out
-- description: Why runs could not be replayed, and how many.
SELECT reason, count(*) AS runs, min(run_id) AS example
FROM replay_diff
WHERE NOT replayed
GROUP BY reason
ORDER BY runs DESC, reason;
