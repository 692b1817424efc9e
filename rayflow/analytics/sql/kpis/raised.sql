-- name: raised
-- description: Alerts since a moment, the newest first: their limit, the value then, when they were raised and when they were over.
SELECT metric, direction, threshold, window_s, round(value, 4) AS value, raised, cleared
FROM alerts
WHERE raised >= CAST($since AS TIMESTAMPTZ) AND (cleared IS NULL OR NOT $open)
ORDER BY raised DESC, metric, threshold;
