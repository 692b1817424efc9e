-- name: parallel_vs_sequential
-- description: Of runs with several agents: the time their parts took together against one after the other (milliseconds).
-- param: since = 7 days
WITH parted AS (
    SELECT
        run_id,
        count(*) AS parts,
        epoch_us(max(ended)) - epoch_us(min(started)) AS together_us,
        sum(duration_ms) AS in_turn_ms
    FROM steps
    WHERE ended >= ago($since) AND duration_ms IS NOT NULL
    GROUP BY run_id
    HAVING count(*) > 1
)
SELECT
    parts,
    count(*) AS runs,
    round(avg(together_us) / 1000, 1) AS parallel_ms,
    round(avg(in_turn_ms), 1) AS sequential_ms,
    round(sum(in_turn_ms) * 1000 / nullif(sum(together_us), 0), 3) AS speedup
FROM parted
GROUP BY parts
ORDER BY parts;
