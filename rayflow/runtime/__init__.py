"""Pure state machines: what the actors know and decide, without clock, loop or transport."""
