"""The embedded offline model: deterministic, extractive, without a language model, weights or network."""
