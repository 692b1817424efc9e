-- name: replay_summary
-- description: How many runs a replay changed and in what, with latency, tokens and cost before and after.
WITH diff AS (FROM replay_diff)
SELECT
    count(*) AS runs,
    count(*) FILTER (replayed) AS replayed,
    count(*) FILTER (NOT replayed) AS left_out,
    count(*) FILTER (len(changed) > 0) AS changed,
    count(*) FILTER (list_contains(changed, 'routing')) AS routing,
    count(*) FILTER (list_contains(changed, 'answer')) AS answers,
    count(*) FILTER (list_contains(changed, 'status')) AS status,
    count(*) FILTER (list_contains(changed, 'tokens')) AS tokens,
    count(*) FILTER (list_contains(changed, 'cost')) AS cost,
    count(*) FILTER (
        status_after = 'error' AND (status_before <> 'error' OR error_before IS DISTINCT FROM error_after)
    ) AS new_errors,
    count(*) FILTER (status_after = 'no-recording') AS unrecorded,
    count(*) FILTER (list_contains(undetermined, 'routing')) AS routing_undetermined,
    count(*) FILTER (list_contains(undetermined, 'answer')) AS answers_undetermined,
    count(*) FILTER (replayed AND input = 'redacted') AS redacted,
    count(*) FILTER (replayed AND history_missing > 0) AS history_missing,
    median(latency_before_ms) FILTER (latency_after_ms IS NOT NULL) AS latency_before_ms,
    median(latency_after_ms) FILTER (latency_before_ms IS NOT NULL) AS latency_after_ms,
    CAST(sum(prompt_tokens_before + completion_tokens_before) FILTER (prompt_tokens_after IS NOT NULL) AS BIGINT)
        AS tokens_before,
    CAST(sum(prompt_tokens_after + completion_tokens_after) FILTER (prompt_tokens_before IS NOT NULL) AS BIGINT)
        AS tokens_after,
    sum(cost_usd_before) FILTER (cost_usd_after IS NOT NULL) AS cost_before_usd,
    sum(cost_usd_after) FILTER (cost_usd_before IS NOT NULL) AS cost_after_usd
FROM diff;
