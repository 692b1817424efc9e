-- name: errors_by_kind
-- description: The errors that runs ended with, how often, since when, and what the last one said.
-- param: since = 7 days
SELECT
    error,
    count(*) AS runs,
    round(count(*) / sum(count(*)) OVER (), 4) AS share,
    min(ended) AS first_seen,
    max(ended) AS last_seen,
    arg_max(error_message, ended) AS last_message,
    arg_max(run_id, ended) AS last_run
FROM runs
WHERE ended >= ago($since) AND status = 'error'
GROUP BY error
ORDER BY runs DESC, error;
