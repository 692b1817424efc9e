"""OpenTelemetry: spans and metrics, made from the events of the log and sent to a collector."""
