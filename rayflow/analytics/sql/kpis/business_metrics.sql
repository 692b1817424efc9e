-- name: business_metrics
-- description: What users got out of their conversations. A conversation is a session with at least one run that ended in the period.
-- figure: user_satisfaction | share | more | Mean of the feedback, from 0 (all down) to 1 (all up); of several opinions of one user on one answer, the last.
-- figure: conversation_quality | share | more | Share of good answers, averaged over conversations. A good answer ended ok, is no stand-in for one that failed, and nobody's last word on it was a thumb down.
-- figure: conversation_length | turns | - | Mean number of runs of a conversation.
-- figure: task_completion_rate | share | more | Share of conversations whose last run ended ok.
-- figure: conversations | conversations | - | How many conversations there were in the period.
-- figure: opinions | opinions | - | How many opinions user_satisfaction is made of.
-- figure: cost | USD | less | What all calls of models cost; those of models without a price count nothing.
WITH rows AS (
    SELECT
        kind, ts, run_id, session_id, tenant, user_id, status, score, cost_usd,
        kind = 'agent.fallback' AND data ->> '$.degraded' = 'true' AS stand_in
    FROM events
    WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ)
        AND kind IN ('run.finished', 'feedback.given', 'agent.fallback', 'agent.finished', 'model.finished')
),
opinions AS (
    SELECT run_id, arg_max(score, ts) AS score
    FROM rows
    WHERE kind = 'feedback.given' AND score IS NOT NULL
    GROUP BY tenant, run_id, CASE WHEN run_id IS NULL THEN session_id END, user_id
),
runs_of AS (
    SELECT
        tenant, coalesce(session_id, run_id) AS conversation, ts, status,
        status = 'ok'
            AND run_id NOT IN (SELECT run_id FROM opinions WHERE score < 0 AND run_id IS NOT NULL)
            AND run_id NOT IN (SELECT run_id FROM rows WHERE stand_in AND run_id IS NOT NULL) AS good
    FROM rows
    WHERE kind = 'run.finished' AND status IN ('ok', 'error')
),
conversations AS (
    SELECT count(*) AS runs, avg(CAST(good AS INTEGER)) AS quality, arg_max(status, ts) AS last_status
    FROM runs_of
    GROUP BY tenant, conversation
)
SELECT
    (SELECT avg((score + 1) / 2) FROM opinions) AS user_satisfaction,
    avg(quality) AS conversation_quality,
    avg(runs) AS conversation_length,
    avg(CAST(last_status = 'ok' AS INTEGER)) AS task_completion_rate,
    count(*) AS conversations,
    (SELECT count(*) FROM opinions) AS opinions,
    (SELECT sum(cost_usd) FROM rows WHERE kind IN ('agent.finished', 'model.finished')) AS cost
FROM conversations;
