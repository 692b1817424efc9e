"""The sections of a workflow file, a noun per module. `rayflow.config.schema` puts them together."""
