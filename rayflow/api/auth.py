"""Who may come in: one check for every form of key.

Only SHA-256 digests of the configured keys are kept, and every one of them is compared in constant time, whichever
matches: how long a refusal takes says nothing about the keys.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

from rayflow.api.headers import Headers
from rayflow.errors import AuthenticationError

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""All that may be asked without a key."""


class ApiKeys:
    """The keys of one deployment. No keys: everybody may come in (and the server listens on loopback only)."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    def check(self, path: str, headers: Headers) -> None:
        """Raises `AuthenticationError` unless `path` is open or the headers hold a key."""
        if not self._digests or path in OPEN_PATHS:
            return
        key = presented(headers)
        if not key:
            raise AuthenticationError("no API key: send it as `Authorization: Bearer KEY` or in X-API-Key")
        digest = sha256(key).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise AuthenticationError("the API key is not known here")


def presented(headers: Headers) -> bytes:
    """The key that came with a request, checked or not; empty where none did."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return token.strip()
    return headers.get(b"x-api-key", b"")
