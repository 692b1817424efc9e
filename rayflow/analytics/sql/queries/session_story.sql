-- name: session_story
-- description: Everything that happened in one session, in order; `after_ms` is the time since the event before.
-- param: session_id
SELECT
    ts,
    round(epoch_us(ts - lag(ts) OVER story) / 1000, 1) AS after_ms,
    kind,
    run_id,
    agent,
    model,
    coalesce(error, status) AS status,
    round(duration_ms, 1) AS duration_ms,
    prompt_tokens,
    completion_tokens,
    content,
    data
FROM events
WHERE session_id = $session_id
WINDOW story AS (ORDER BY ts, run_id, seq, kind)
ORDER BY ts, run_id, seq, kind;
