"""`Idempotency-Key`: a request that may be sent again and still is one run.

The key of a client becomes the id of the run, and of its session where the request names none, by a keyed hash: every
ingress process finds the same ids without asking anybody, the repetition lands at the same router and in the same
session, and nobody who does not hold the same API key can meet it. Source of the header: IETF draft
"The Idempotency-Key HTTP Header Field" (draft-ietf-httpapi-idempotency-key-header).
"""

from __future__ import annotations

from hashlib import blake2b

from rayflow.api.auth import presented
from rayflow.api.conversation import session_of
from rayflow.api.decode import fault
from rayflow.api.exchange import Exchange
from rayflow.api.headers import Headers

MAX_KEY_CHARS = 255
RUN_BYTES = 22
SESSION_BYTES = 16
"""As many as random ids have (rayflow.ids)."""


def run_of(exchange: Exchange, **named: str | None) -> tuple[str, bool, bool]:
    """The session of the request, whether it was made here, and whether the run may be repeated.

    `named`: as for `session_of`. A key decides the id of the exchange, which is that of its run. Raises
    `ValidationError` for a key that is none, and as `session_of` does.
    """
    key = idempotency_key(exchange.headers)
    session_id, new = session_of(exchange, **named)
    if key is None:
        return session_id, new, False
    owner = presented(exchange.headers)
    exchange.id = "run_" + _digest(owner, "run", "" if new else session_id, key, RUN_BYTES)
    if new:
        session_id = exchange.session_id = "sess_" + _digest(owner, "session", "", key, SESSION_BYTES)
    return session_id, new, True


def idempotency_key(headers: Headers) -> str | None:
    """The key, or None where the request has none. Raises `ValidationError` for a malformed one."""
    raw = headers.get(b"idempotency-key")
    if raw is None:
        return None
    if not 1 <= len(raw) <= MAX_KEY_CHARS or not all(0x21 <= byte <= 0x7E for byte in raw):
        raise fault("idempotency-key", f"must be 1 to {MAX_KEY_CHARS} visible ASCII characters, without blanks")
    return raw.decode("ascii")


def _digest(owner: bytes, purpose: str, session_id: str, key: str, size: int) -> str:
    """Hexadecimal digits that follow from the arguments. `owner`, a secret where keys are asked for, is not in them."""
    secret = blake2b(owner, digest_size=32).digest()
    return blake2b("\0".join((purpose, session_id, key)).encode(), key=secret, digest_size=size).hexdigest()
