"""From an entry under `models:` to the client an agent calls.

Imports are lazy: a system that uses only the offline model loads no HTTP client.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rayflow.config.schema import ModelConfig, WorkflowConfig
from rayflow.errors import ConfigurationError

if TYPE_CHECKING:
    from rayflow.models.embeddings import Embeddings
    from rayflow.models.offline.model import OfflineModel
    from rayflow.models.openai_endpoint import OpenAIEndpoint

NO_KEY = "no-key"
"""What a local endpoint gets as its key where none is configured; the SDK insists on one."""


def build(config: ModelConfig, replica: int = 0, env: Mapping[str, str] = os.environ) -> OfflineModel | OpenAIEndpoint:
    """The client for `config`, as replica number `replica` of an agent should have it.

    Call it inside the event loop that will use the client. Raises `ConfigurationError` for a missing key, an unusable
    base URL or an unreadable knowledge file.
    """
    if config.provider == "offline":
        from rayflow.models.offline.model import OfflineModel

        return OfflineModel(config.model or config.name, config.knowledge)
    from rayflow.models.openai_endpoint import OpenAIEndpoint

    base_url = _base_url(config, replica, env)
    return OpenAIEndpoint(
        config.model or config.name,
        api_key=_key(config, base_url, env),
        base_url=base_url,
        organization=config.organization,
        project=config.project,
        headers=config.headers,
        timeouts=config.timeouts,
        lane=config.lane,
    )


def embeddings(config: WorkflowConfig, env: Mapping[str, str] = os.environ) -> Embeddings:
    """Who makes vectors, as the configuration says, which must name somebody.

    Call it inside the event loop that will use it. Raises `ConfigurationError` as `build`, and where a package is
    missing.
    """
    from rayflow.models.embeddings import Embeddings, EmbeddingsEndpoint, HashedWords, LocalModel

    if config.embeddings.local is not None:
        return Embeddings(LocalModel(config.embeddings.local), config.embeddings)
    model = config.model(config.embeddings.model or "")
    if model.provider == "offline":
        return Embeddings(HashedWords(), config.embeddings)
    from rayflow.models.connect import connect
    from rayflow.models.lanes import EMBEDDINGS

    base_url = _base_url(model, 0, env)
    lane, upstream = connect(
        model.model or model.name,
        EMBEDDINGS,
        model.timeouts,
        api_key=_key(model, base_url, env),
        base_url=base_url,
        organization=model.organization,
        project=model.project,
        headers=model.headers,
        lane=model.lane,
    )
    return Embeddings(EmbeddingsEndpoint(lane, upstream, model.timeouts), config.embeddings)


def _base_url(config: ModelConfig, replica: int, env: Mapping[str, str]) -> str | None:
    urls = config.base_url
    if isinstance(urls, list):
        if not urls:
            raise ConfigurationError(f"models.{config.name}.base_url: expected at least one URL, got an empty list")
        urls = urls[replica % len(urls)]
    url = urls or env.get("OPENAI_BASE_URL") or None
    if url is not None and not _is_endpoint(url):
        raise ConfigurationError(
            f"models.{config.name}.base_url: expected a URL such as http://127.0.0.1:8000/v1, got {url!r}"
        )
    return url


def _is_endpoint(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        return False


def _key(config: ModelConfig, base_url: str | None, env: Mapping[str, str]) -> str:
    configured = config.api_key.get_secret_value() if config.api_key else env.get("OPENAI_API_KEY", "")
    if key := configured.strip():
        return key
    if base_url is not None and _is_loopback(base_url):
        return NO_KEY
    raise ConfigurationError(
        f"models.{config.name}.api_key: the openai provider needs a key; set OPENAI_API_KEY, "
        f"write api_key: ${{NAME}}, or use provider: offline"
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
