"""Configuration: one YAML file, checked strictly, overridden by environment and flags."""
