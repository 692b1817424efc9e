-- name: run_story
-- description: Everything that happened in one run, in order; `at_ms` is the time since its first event.
-- param: run_id
SELECT
    seq,
    round(epoch_us(ts - min(ts) OVER ()) / 1000, 1) AS at_ms,
    kind,
    agent,
    replica,
    model,
    attempt,
    coalesce(error, status) AS status,
    round(queue_ms, 1) AS queue_ms,
    round(duration_ms, 1) AS duration_ms,
    prompt_tokens,
    completion_tokens,
    cost_usd,
    error_message,
    content,
    data
FROM events
WHERE run_id = $run_id
    -- An hour, because clocks of nodes differ.
    AND ts >= run_began($run_id) - INTERVAL 1 HOUR
    AND date >= CAST(run_began($run_id) - INTERVAL 1 HOUR AS DATE)
ORDER BY seq, ts, kind;
