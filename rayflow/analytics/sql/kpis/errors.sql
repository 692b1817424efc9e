-- name: errors
-- description: Errors that runs ended with, how often, and what the last one said.
SELECT error, count(*) AS runs, max(ts) AS last, arg_max(error_message, ts) AS message
FROM events
WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ)
    AND kind = 'run.finished' AND status = 'error'
GROUP BY error
ORDER BY runs DESC, error
LIMIT 20;
