"""The way to an OpenAI-compatible endpoint: its address, its keys, and the lane that fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from rayflow.config.schema import Timeouts
from rayflow.models.address import address, needs_sdk
from rayflow.models.lanes import FastLane, Lane
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
    at = address(path, api_key=api_key, base_url=base_url, organization=organization, project=project, headers=headers)
    upstream = Upstream(model, at.shown, api_key)
    if lane == "fast" and not needs_sdk(at.url):
        return FastLane(at, timeouts.connect_s), upstream
    from rayflow.models.sdk_lane import SdkLane, sdk_client  # 22 MB and most of a second

    sdk = sdk_client(api_key, base_url, organization, project, headers, timeouts.connect_s)
    return SdkLane(sdk, at), upstream
