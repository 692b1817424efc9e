"""Who may come in, and as whom: one check for every form of key.

Only SHA-256 digests of the configured keys are kept, and every one of them is compared in constant time, whichever
matches: how long a refusal takes says nothing about the keys.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256

from rayflow.api.headers import Headers
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import AuthenticationError

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""All that may be asked without a key."""
NO_TENANT = ""
"""Whose requests are those that come with a key of nobody in particular, or where no key is asked for."""


class ApiKeys:
    """The keys of one deployment. No keys: everybody may come in (and the server listens on loopback only).

    `keys`: those of no tenant. `tenants`: those of each tenant.
    """

    def __init__(self, keys: Iterable[str], tenants: Mapping[str, Iterable[str]] | None = None) -> None:
        of_all = {NO_TENANT: keys, **(tenants or {})}
        self._digests = [(sha256(key.encode()).digest(), tenant) for tenant, keys in of_all.items() for key in keys]

    @classmethod
    def of(cls, config: WorkflowConfig) -> ApiKeys:
        return cls(
            [key.get_secret_value() for key in config.security.api_keys],
            {tenant.name: [key.get_secret_value() for key in tenant.api_keys] for tenant in config.tenants},
        )

    def __bool__(self) -> bool:
        return bool(self._digests)

    def check(self, path: str, headers: Headers) -> str:
        """The tenant whose key the headers hold. Raises `AuthenticationError` unless they hold one or `path` is
        open."""
        if not self._digests or path in OPEN_PATHS:
            return NO_TENANT
        key = presented(headers)
        if not key:
            raise AuthenticationError("no API key: send it as `Authorization: Bearer KEY` or in X-API-Key")
        digest = sha256(key).digest()
        matches = [tenant for known, tenant in self._digests if hmac.compare_digest(digest, known)]
        if not matches:
            raise AuthenticationError("the API key is not known here")
        return matches[0]


def presented(headers: Headers) -> bytes:
    """The key that came with a request, checked or not; empty where none did."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return token.strip()
    return headers.get(b"x-api-key", b"")
