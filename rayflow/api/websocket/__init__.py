"""Chat over one open connection: several messages, several sessions, and a word in between, as stop.

`line` is the connection, `handshake` lets it in, `socket` is what goes on there, `frames` and `encoder` are what the
two sides write. A run is the same run as that of POST /chat: the same checks, the same driver, the same events.
"""
