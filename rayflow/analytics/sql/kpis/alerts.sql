-- name: alerts
-- description: Alerts: how often each was raised and cleared, its limit, and the value that was farthest beyond it.
SELECT
    metric,
    direction,
    threshold,
    count(*) FILTER (kind = 'alert.raised') AS raised,
    count(*) FILTER (kind = 'alert.cleared') AS cleared,
    CASE direction WHEN 'below' THEN min(score) ELSE max(score) END AS worst
FROM (
    SELECT
        kind, score, data ->> '$.metric' AS metric, data ->> '$.direction' AS direction,
        CAST(data ->> '$.threshold' AS DOUBLE) AS threshold
    FROM events
    WHERE ts >= CAST($since AS TIMESTAMPTZ) AND ts < CAST($until AS TIMESTAMPTZ)
        AND kind IN ('alert.raised', 'alert.cleared')
)
GROUP BY metric, direction, threshold
ORDER BY raised DESC, metric, threshold;
