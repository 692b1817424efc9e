"""Pure decisions: a snapshot, `now` and a seeded `rng` in, a decision out. No clock, no await, no I/O."""
