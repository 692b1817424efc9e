"""Thin shells around runtime objects and ports: inbox, timers, I/O. Nothing here knows of Ray."""
