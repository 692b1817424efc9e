-- The runs that a replay needs: those chosen, and all others of their sessions, which are their history.
-- One row a run; sessions after each other, in the order in which they began; in a session, runs in theirs.
-- What an event knows of its run stands in it, so one pass over the events of these runs makes the rows.
WITH chosen AS (
    SELECT run_id
    FROM runs
    WHERE coalesce(ended, started) >= CAST($since AS TIMESTAMPTZ)
        AND coalesce(ended, started) < CAST($until AS TIMESTAMPTZ)
        AND (/* where */ true)
    ORDER BY md5(run_id)
    LIMIT $most
),
touched AS (
    SELECT DISTINCT tenant, session_id FROM runs WHERE run_id IN (FROM chosen)
),
members AS (
    SELECT runs.run_id, runs.status AS run_status
    FROM runs
    JOIN touched ON runs.session_id = touched.session_id AND runs.tenant IS NOT DISTINCT FROM touched.tenant
    WHERE runs.started < CAST($until AS TIMESTAMPTZ)
),
told AS (
    SELECT
        run_id,
        any_value(session_id) AS session_id,
        any_value(tenant) AS tenant,
        any_value(user_id) AS user_id,
        any_value(channel) AS channel,
        any_value(priority) AS priority,
        epoch_us(min(ts)) AS started_us,
        any_value(run_status) AS status,
        arg_max(error, seq) FILTER (kind = 'run.finished') AS error,
        arg_max(duration_ms, seq) FILTER (kind = 'run.finished') AS duration_ms,
        arg_max(cost_usd, seq) FILTER (kind = 'run.finished') AS cost_usd,
        coalesce(bool_or(kind = 'run.finished' AND (data ->> '$.cached') = 'true'), false) AS cached,
        arg_min(content, seq) FILTER (kind = 'run.started') AS question,
        CAST(arg_min(data ->> '$.messages', seq) FILTER (kind = 'run.started') AS BIGINT) AS messages,
        coalesce(bool_or(kind = 'run.started' AND (data -> '$.content_chars') IS NOT NULL), false) AS question_cut,
        coalesce(bool_or(kind = 'run.started' AND (data -> '$.redactions') IS NOT NULL), false) AS question_redacted,
        min(CAST(data ->> '$.turn' AS BIGINT)) FILTER (kind = 'turn.committed') AS turn,
        coalesce(bool_or(kind = 'agent.finished' AND ttft_ms IS NOT NULL), false) AS streamed,
        bool_or(kind = 'run.routed') AS routed,
        arg_max(strategy, seq) FILTER (kind = 'run.routed') AS strategy,
        arg_max(confidence, seq) FILTER (kind = 'run.routed') AS confidence,
        arg_max(CAST(data -> '$.agents' AS VARCHAR[]), seq) FILTER (kind = 'run.routed') AS agents,
        arg_max(CAST(data -> '$.scores' AS VARCHAR), seq) FILTER (kind = 'run.routed') AS scores,
        bool_or(kind = 'model.finished' AND status = 'ok' AND (data ->> '$.purpose') = 'routing') AS chosen_by_model,
        arg_max(content, seq) FILTER (kind = 'run.finished') AS answer,
        coalesce(bool_or(kind = 'run.finished' AND (data -> '$.content_chars') IS NOT NULL), false) AS answer_cut,
        coalesce(bool_or(kind = 'run.finished' AND (data -> '$.redactions') IS NOT NULL), false) AS answer_redacted,
        list({
            'agent': agent, 'status': status, 'error': error, 'error_message': error_message,
            'text': content, 'cut': (data -> '$.content_chars') IS NOT NULL, 'model': model,
            'finish_reason': finish_reason, 'prompt_tokens': prompt_tokens, 'completion_tokens': completion_tokens,
            'cached_tokens': cached_tokens, 'reasoning_tokens': reasoning_tokens, 'cost_usd': cost_usd,
            'duration_ms': duration_ms
        } ORDER BY seq) FILTER (kind = 'agent.finished') AS parts,
        list({
            'agent': agent, 'message': error_message, 'onward': data ->> '$.agent'
        } ORDER BY seq) FILTER (kind = 'agent.fallback') AS moves,
        list({
            'agent': agent, 'id': data ->> '$.call_id', 'name': data ->> '$.tool', 'arguments': content
        } ORDER BY seq) FILTER (kind = 'tool.called') AS tools
    FROM events
    JOIN members USING (run_id)
    WHERE kind IN (
        'run.started', 'run.routed', 'agent.finished', 'agent.fallback', 'tool.called', 'model.finished',
        'turn.committed', 'run.finished'
    )
    GROUP BY run_id
)
SELECT *, run_id IN (FROM chosen) AS chosen
FROM told
ORDER BY min(started_us) OVER (PARTITION BY tenant, session_id), session_id, tenant, started_us, run_id
