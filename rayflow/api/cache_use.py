"""What a request wants of kept answers."""

from __future__ import annotations

from rayflow.api.headers import Headers
from rayflow.messages.caches import CacheUse


def cache_use(headers: Headers, wanted: bool | None = None) -> CacheUse:
    """What `Cache-Control` says, and `wanted`, the body's own word: false is `no-store`."""
    if wanted is False:
        return "no-store"
    said = headers.get(b"cache-control")
    if said is None:
        return ""
    words = {word.strip().lower() for word in said.split(b",")}
    if b"no-store" in words:
        return "no-store"
    return "no-cache" if b"no-cache" in words else ""
