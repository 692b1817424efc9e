from __future__ import annotations

import pytest

from rayflow.config.load import load_text
from rayflow.errors import ConfigurationError

HEAD = "name: t\nagents: [{name: a}]\n"


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("caches: {results: {levels: []}}", "caches.results.levels"),
        ("caches: {results: {levels: [store, router]}}", "caches.results.levels"),
        ("caches: {results: {levels: [router, router]}}", "caches.results.levels"),
        ("caches: {results: {scope: world}}", "caches.results.scope"),
        ("caches: {results: {ttl_s: 0}}", "caches.results.ttl_s"),
        ("embeddings: {model: nobody}", "embeddings.model"),
        ("embeddings: {weight: 1.5}", "embeddings.weight"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_key(section: str, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text(f"{HEAD}{section}\n", env={})
    assert [problem["key"].removesuffix(".0") for problem in caught.value.details["problems"]] == [key]


def test_a_model_or_a_folder_but_not_both(tmp_path: object) -> None:
    with pytest.raises(ConfigurationError, match=r"embeddings\.local: expected either model or local, got both"):
        load_text(f"{HEAD}embeddings: {{model: offline, local: {tmp_path}}}\n", env={})


def test_both_are_off_by_default() -> None:
    config = load_text(HEAD, env={})
    assert not config.embeddings.enabled and not config.caches.results.enabled
    assert load_text(f"{HEAD}embeddings: {{model: offline}}\n", env={}).embeddings.enabled
