"""The way to an OpenAI-compatible endpoint: its address, its keys, and the lane that fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import httpx2
from openai import AsyncOpenAI, DefaultAioHttpClient

from rayflow.config.schema import Timeouts
from rayflow.models.lanes import IDLE_CONNECTION_S, MAX_CONNECTIONS, FastLane, Lane, SdkLane, needs_sdk
from rayflow.models.upstream import Upstream


def connect(
    model: str,
    path: str,
    timeouts: Timeouts,
    *,
    api_key: str,
    base_url: str | None = None,
    organization: str | None = None,
    project: str | None = None,
    headers: Mapping[str, str] | None = None,
    lane: Literal["fast", "sdk"] = "fast",
) -> tuple[Lane, Upstream]:
    """A lane to `path` of the endpoint, and how errors name it. `base_url` includes the version path; None is OpenAI's
    own. Nothing is sent yet."""
    limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=IDLE_CONNECTION_S)
    sdk = AsyncOpenAI(
        api_key=api_key,
        base_url=base_url,
        organization=organization,
        project=project,
        default_headers=headers,
        max_retries=0,
        timeout=httpx2.Timeout(None, connect=timeouts.connect_s),
        http_client=DefaultAioHttpClient(limits=limits, follow_redirects=False),
    )
    fast = lane == "fast" and not needs_sdk(sdk)
    plain = sdk.base_url.copy_with(userinfo=b"", query=None, fragment=None)  # errors show it: no password, no key
    upstream = Upstream(model, str(plain).rstrip("/"), api_key)
    return FastLane(sdk, path, timeouts.connect_s) if fast else SdkLane(sdk, path), upstream
