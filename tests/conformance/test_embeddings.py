"""One contract for all who make vectors, and what no endpoint may do to it."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from math import isclose
from types import ModuleType

import pytest
from fault_server import FaultServer, response

from rayflow.api.model_faults import Behaviour
from rayflow.api.model_server import ModelServer, listen, make_server
from rayflow.config.schema import EmbeddingsConfig, WorkflowConfig
from rayflow.errors import ConfigurationError, ModelError, ModelRateLimited, ModelRejected, ModelTimeout
from rayflow.models.embeddings import Embeddings, LocalModel
from rayflow.models.factory import embeddings
from rayflow.policies.similarity import similarity
from rayflow.runtime.ports import Embedder

KEY = "sk-secret-0123456789"


def made(url: str = "", lane: str = "fast", **settings: object) -> Embeddings:
    timeouts = {"total_s": 0.3}
    model = {"name": "e", "provider": "openai", "base_url": url, "api_key": KEY, "lane": lane, "timeouts": timeouts}
    given = {"model": "e" if url else "offline", **settings}
    config = {"name": "w", "agents": [{"name": "a"}], "models": [model], "embeddings": given}
    return embeddings(WorkflowConfig.model_validate(config), env={})


@pytest.fixture
async def served() -> AsyncIterator[str]:
    with listen("127.0.0.1", 0) as listener:
        server = make_server(ModelServer(Behaviour()))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server.should_exit = True
        await task


@pytest.fixture(params=["offline", "fast", "sdk"])
async def embedder(request: pytest.FixtureRequest, served: str) -> AsyncIterator[Embedder]:
    embedder: Embedder = made() if request.param == "offline" else made(served, request.param, batch_size=2)
    yield embedder
    await embedder.close()


async def test_equal_texts_have_equal_vectors_of_unit_length(embedder: Embedder) -> None:
    one, two, again = await embedder.embed(["my dog is called Rex", "the weather", "my dog is called Rex"])
    assert list(one) == list(again) and list(one) != list(two)
    assert all(isclose(similarity(vector, vector), 1.0, rel_tol=1e-5) for vector in (one, two))


async def test_texts_that_share_words_are_more_alike(embedder: Embedder) -> None:
    asked, near, far = await embedder.embed(["Is my dog ill?", "The dog was ill yesterday.", "Trains are late."])
    assert similarity(asked, near) > 0.5 > abs(similarity(asked, far))


async def test_a_text_without_words_and_one_without_end_have_vectors_too(embedder: Embedder) -> None:
    assert len(await embedder.embed(["", "?!", "word " * 50_000, "😀"])) == 4
    assert await embedder.embed([]) == []


async def test_what_is_known_is_not_computed_again(embedder: Embedder) -> None:
    await embedder.embed(["a", "b", "c"])
    await embedder.embed(["b", "d", "b"])
    assert (embedder.counts.hits, embedder.counts.misses, embedder.counts.stores, len(embedder)) == (1, 4, 4, 4)


async def test_tenants_do_not_share_what_is_known(embedder: Embedder) -> None:
    (one,), (other,) = await embedder.embed(["a"], "one"), await embedder.embed(["a"], "two")
    assert list(one) == list(other) and (embedder.counts.hits, embedder.counts.misses) == (0, 2)


def vectors(*found: list[float]) -> bytes:
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(found)]
    return response(json.dumps({"object": "list", "data": data}).encode())


@pytest.mark.parametrize("lane", ["fast", "sdk"])
@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (vectors([1.0, 0.0]), ModelError, "1 embeddings for 2 texts"),
        (vectors([1.0, 0.0], [1.0]), ModelError, "2 texts did not get a vector each"),
        (vectors([1.0, 0.0], [0.0, 0.0]), ModelError, "no direction"),
        (response(b"<html>"), ModelError, "holds no embeddings"),
        (response(b'{"data": 3}'), ModelError, "holds no embeddings"),
        (response(b'{"error": {"message": "slow down"}}', "429 Too Many Requests"), ModelRateLimited, "slow down"),
        (response(b'{"error": {"message": "no such model"}}', "404 Not Found"), ModelRejected, "no such model"),
        (response(b"{}", "401 Unauthorized"), ModelRejected, "API key was refused"),
    ],
)
async def test_a_bad_answer_is_an_error_that_names_it(
    lane: str, answer: bytes, kind: type[ModelError], said: str
) -> None:
    async with FaultServer({"x": answer}) as server:
        embedder = made(f"http://127.0.0.1:{server.port}/x/v1", lane)
        with pytest.raises(kind, match=said) as caught:
            await embedder.embed(["a", "b"])
        await embedder.close()
    assert KEY not in str(caught.value) and caught.value.details["model"] == "e"


async def test_silence_is_a_timeout_and_nobody_listening_an_error() -> None:
    with listen("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        embedder = made(url)
        with pytest.raises(ModelTimeout, match=r"not finished within 0\.3 s"):
            await embedder.embed(["a"])
    with pytest.raises(ModelError, match="no answer"):
        await embedder.embed(["a"])
    await embedder.close()


def test_a_local_model_without_its_package_is_refused(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    config = {"name": "w", "agents": [{"name": "a"}], "embeddings": {"local": str(tmp_path)}}
    with pytest.raises(ConfigurationError, match=r"rayflow\[embeddings\]"):
        embeddings(WorkflowConfig.model_validate(config))


class FakeTransformer:
    """What `LocalModel` uses of sentence-transformers."""

    def __init__(self, folder: str, *, device: str, local_files_only: bool) -> None:
        if not folder:
            raise OSError("no such folder")
        assert (device, local_files_only) == ("cpu", True), "nothing is downloaded"

    def encode(self, texts: list[str], *, show_progress_bar: bool) -> list[list[float]]:
        assert threading.current_thread() is not threading.main_thread(), "off the loop"
        return [[float(len(text)), 1.0] for text in texts]


async def test_a_local_model_works_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("sentence_transformers")
    package.SentenceTransformer = FakeTransformer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    for folder in ("here", ""):
        embedder = Embeddings(LocalModel(folder), EmbeddingsConfig(local=folder))
        if folder:
            assert [len(vector) for vector in await embedder.embed(["a", "bb"])] == [2, 2]
        else:
            with pytest.raises(ModelError, match="no such folder"):
                await embedder.embed(["a"])
        await embedder.close()
