-- name: run_owner
-- description: A run that has ended: whose it was, and who answered. Nothing where the tenant has no such run.
SELECT run_id, session_id, user_id, coalesce(TRY_CAST(data -> '$.agents' AS VARCHAR[]), []) AS agents
FROM events
WHERE kind = 'run.finished' AND run_id = $run_id AND coalesce(tenant, '') = $tenant
ORDER BY ts DESC
LIMIT 1;
