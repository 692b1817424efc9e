-- name: tokens_by_workflow
-- description: Runs and tokens of each workflow.
-- param: since = 7 days
SELECT
    workflow,
    count(*) AS runs,
    CAST(coalesce(sum(prompt_tokens), 0) AS BIGINT) AS prompt_tokens,
    CAST(coalesce(sum(completion_tokens), 0) AS BIGINT) AS completion_tokens,
    CAST(coalesce(sum(prompt_tokens), 0) + coalesce(sum(completion_tokens), 0) AS BIGINT) AS total_tokens
FROM runs
WHERE started >= now() - CAST($since AS INTERVAL)
GROUP BY workflow
ORDER BY total_tokens DESC, workflow;
