"""The transport that carries messages between actors: `tell` and `ask` between logical addresses."""
