"""From configuration to client, without a key where none is needed and never without one where it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from rayflow.config.schema import ModelConfig
from rayflow.errors import ConfigurationError
from rayflow.models.factory import NO_KEY, build
from rayflow.models.offline.model import OfflineModel
from rayflow.models.openai_endpoint import OpenAIEndpoint


async def endpoint(config: ModelConfig, replica: int = 0, env: dict[str, str] | None = None) -> tuple[str, str, str]:
    """(model, base URL, key) of the client that is built."""
    client = build(config, replica, env or {})
    assert isinstance(client, OpenAIEndpoint)
    await client.close()
    return client._upstream


def test_offline_needs_nothing() -> None:
    client = build(ModelConfig(name="offline"), env={})
    assert isinstance(client, OfflineModel)
    assert client.name == "offline"


def test_offline_does_not_load_the_openai_package() -> None:
    code = (
        "import sys; from rayflow.config.schema import ModelConfig; from rayflow.models.factory import build; "
        "build(ModelConfig(name='offline')); sys.exit('openai' in sys.modules or 'aiohttp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_the_model_id_defaults_to_the_entrys_name() -> None:
    url = "http://localhost:1/v1"
    assert (await endpoint(ModelConfig(name="a", provider="openai", base_url=url)))[0] == "a"
    assert (await endpoint(ModelConfig(name="a", provider="openai", model="b", base_url=url)))[0] == "b"


async def test_each_replica_takes_its_own_url() -> None:
    config = ModelConfig(name="a", provider="openai", base_url=["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"])
    assert [(await endpoint(config, replica))[1][-4] for replica in range(3)] == ["1", "2", "1"]


async def test_key_and_url_come_from_the_environment_where_the_file_has_none() -> None:
    env = {"OPENAI_API_KEY": " sk-env\n", "OPENAI_BASE_URL": "https://models.test/v1"}
    assert await endpoint(ModelConfig(name="a", provider="openai"), env=env) == (
        "a",
        "https://models.test/v1",
        "sk-env",
    )
    own = ModelConfig(name="a", provider="openai", base_url="https://own.test/v1", api_key=SecretStr("sk-own"))
    assert await endpoint(own, env=env) == ("a", "https://own.test/v1", "sk-own")


async def test_a_password_in_the_url_is_not_shown() -> None:
    config = ModelConfig(name="a", provider="openai", base_url="http://me:secret@localhost:9/v1")
    assert (await endpoint(config))[1] == "http://localhost:9/v1"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.9.9.9"])
async def test_a_loopback_endpoint_needs_no_key(host: str) -> None:
    config = ModelConfig(name="a", provider="openai", base_url=f"http://{host}:9/v1")
    assert (await endpoint(config))[2] == NO_KEY


@pytest.mark.parametrize("url", [None, "https://models.test/v1", "http://192.168.0.7/v1", "http://127.0.0.1.test/v1"])
def test_any_other_endpoint_without_a_key_is_refused(url: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"models\.a\.api_key: .*OPENAI_API_KEY"):
        build(ModelConfig(name="a", provider="openai", base_url=url), env={})


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8000/v1", "ftp://host/v1", "http://", "http://[::1/v1"),
        *("http://host:port/v1", "http://host:99999/v1", "http://host:0/v1"),
        [],
    ],
)
def test_a_base_url_that_is_none_is_refused(url: str | list[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"models\.a\.base_url"):
        build(ModelConfig(name="a", provider="openai", base_url=url), env={})


def test_a_knowledge_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.md: cannot be read"):
        build(ModelConfig(name="a", knowledge=str(tmp_path / "missing.md")), env={})
