-- name: tokens_by_workflow
-- description: Ended runs and tokens of each workflow.
-- param: since = 7 days
SELECT
    workflow,
    count(*) AS runs,
    CAST(coalesce(sum(prompt_tokens), 0) AS BIGINT) AS prompt_tokens,
    CAST(coalesce(sum(completion_tokens), 0) AS BIGINT) AS completion_tokens,
    CAST(coalesce(sum(prompt_tokens), 0) + coalesce(sum(completion_tokens), 0) AS BIGINT) AS total_tokens
FROM runs
WHERE ended >= ago($since)
GROUP BY workflow
ORDER BY total_tokens DESC, workflow;
