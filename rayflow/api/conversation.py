"""Which session a request belongs to."""

from __future__ import annotations

from rayflow.api.decode import fault
from rayflow.api.exchange import Exchange
from rayflow.api.headers import safe_id, session_header
from rayflow.ids import new_session_id


def session_of(exchange: Exchange, **named: str | None) -> tuple[str, bool]:
    """The session id, and whether it was made here because the request names none.

    The answer will echo it. It may stand in `X-Session-Id` and in fields of the body (`named`: value by field); those
    that are there must agree. Raises `ValidationError`.
    """
    chosen = session_header(exchange.headers)
    for field, value in named.items():
        if value is None:
            continue
        safe_id(value, field)
        if chosen not in (None, value):
            raise fault(field, "another field, or X-Session-Id, names a different session")
        chosen = value
    exchange.session_id = chosen or new_session_id()
    return exchange.session_id, chosen is None
