-- name: performance_metrics
-- description: How fast and how reliably runs were answered, and how loaded the machine was.
-- figure: runs | runs | - | Runs that ended with an answer or an error in the period; those that were cancelled do not count.
-- figure: response_time | ms | less | Mean time from taking a run in to its end, of runs that ended ok.
-- figure: response_time_p95 | ms | less | The same: 95 of 100 took at most so long.
-- figure: time_to_first_token | ms | less | Mean time to the first token, of runs that were streamed and ended ok.
-- figure: throughput | runs/s | more | Runs for each second of the period.
-- figure: error_rate | share | less | Share of the runs that ended with an error.
-- figure: cpu_usage | share | less | Mean share of the machine's processors that was busy, of samples taken every monitoring.interval_s.
-- figure: memory_usage | share | less | Mean share of the machine's memory that was in use, of the same samples.
-- figure: memory_peak | share | less | The largest share that one of these samples found.
WITH rows AS (
    SELECT
        kind = 'run.finished' AS is_run,
        status, duration_ms, ttft_ms,
        CAST(CASE WHEN kind = 'system.sampled' THEN data ->> '$.cpu_usage' END AS DOUBLE) AS cpu,
        CAST(CASE WHEN kind = 'system.sampled' THEN data ->> '$.memory_usage' END AS DOUBLE) AS memory
    FROM events
    WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ)
        AND (kind = 'system.sampled' OR kind = 'run.finished' AND status IN ('ok', 'error'))
)
SELECT
    count(*) FILTER (is_run) AS runs,
    avg(duration_ms) FILTER (is_run AND status = 'ok') AS response_time,
    quantile_cont(duration_ms, 0.95) FILTER (is_run AND status = 'ok') AS response_time_p95,
    avg(ttft_ms) FILTER (is_run AND status = 'ok') AS time_to_first_token,
    1e6 * count(*) FILTER (is_run) / (epoch_us(CAST($until AS TIMESTAMPTZ)) - epoch_us(CAST($since AS TIMESTAMPTZ))) AS throughput,
    count(*) FILTER (is_run AND status = 'error') / nullif(count(*) FILTER (is_run), 0) AS error_rate,
    avg(cpu) AS cpu_usage,
    avg(memory) AS memory_usage,
    max(memory) AS memory_peak
FROM rows;
