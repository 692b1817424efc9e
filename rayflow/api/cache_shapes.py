"""What is said of caches."""

from __future__ import annotations

import msgspec

from rayflow.messages import CacheCounts


class CacheReport(msgspec.Struct, frozen=True):
    """Of all routers and session stores, since each of them started."""

    caches: list[CacheCounts]
