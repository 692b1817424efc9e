-- name: workflows
-- description: Workflows: runs that ended, those of them that ended ok, and their mean execution time (ms). What a program timed with track_workflow stands beside them under its own name.
SELECT
    workflow,
    count(*) AS runs,
    avg(CAST(status = 'ok' AS INTEGER)) AS success_rate,
    avg(duration_ms) FILTER (status = 'ok') AS execution_time
FROM events
WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ)
    AND kind IN ('run.finished', 'workflow.tracked') AND status IN ('ok', 'error')
GROUP BY workflow
ORDER BY runs DESC, workflow;
