"""A strategy from a user's file works, learns when it wants to, and cannot break the pool."""

from __future__ import annotations

from pathlib import Path

import pytest
from replica_doubles import answered, picks, replicas

from rayflow.config.schema import BalancingConfig
from rayflow.errors import ConfigurationError
from rayflow.policies.balancing import Balancer, balancer
from rayflow.policies.balancing.factory import STRATEGIES, OwnBalancer

FILE = '''
class Highest:
    """The replica with the highest number, but those it has seen answering."""

    def __init__(self, spare=0):
        self.spare = spare
        self.seen = set()
        self.size = 0

    def members(self, replicas):
        self.size = len(replicas)

    def choose(self, replicas, limit, now, rng, key):
        return [r for r in replicas if r.index not in self.seen][-1 - self.spare]

    def ended(self, replica, outcome, met, now):
        self.seen.add(replica.index)


def first(replicas, limit, now, rng, key):
    return replicas[0]


def broken(replicas, limit, now, rng, key):
    raise RuntimeError("no idea")


def elsewhere(replicas, limit, now, rng, key):
    return "agent/a/7"
'''


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(FILE)
    return file


def own(path: Path, name: str, **options: object) -> Balancer:
    return balancer(BalancingConfig(strategy=f"{path}:{name}", options=options))


def test_a_function_decides(path: Path) -> None:
    assert picks(own(path, "first"), replicas(9, 0, 0)) == {0: 100}


def test_an_object_gets_its_options_and_hears_of_members_and_answers(path: Path) -> None:
    three, strategy = replicas(0, 0, 0), own(path, "Highest", spare=1)
    strategy.members(three)
    assert picks(strategy, three) == {1: 100}
    answered(strategy, three[2], 0.1, 1.0)
    assert picks(strategy, three) == {0: 100}


@pytest.mark.parametrize("name", ["broken", "elsewhere"])
def test_where_it_fails_least_busy_decides_and_the_log_says_so(
    path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = own(path, name)
    assert picks(strategy, replicas(3, 1, 2), times=8) == {1: 8}
    assert isinstance(strategy, OwnBalancer)
    assert strategy.failures == 8
    assert len(caplog.records) == 4, "the 1st, 2nd, 4th and 8th time"
    assert "least_busy decides" in caplog.text


def test_the_documented_example_works(tmp_path: Path) -> None:
    text = (Path(__file__).parents[4] / "docs/policies/balancing.md").read_text()
    file = tmp_path / "example.py"
    file.write_text(text.split("```python\n")[1].split("```")[0])
    strategy = own(file, "NearestFirst", spread=2)
    three = replicas(2, 1, 0)
    strategy.members(three)
    answered(strategy, three[0], 0.1, 1.0)
    assert picks(strategy, three) == {1: 100}
    assert isinstance(strategy, OwnBalancer) and strategy.failures == 0


def test_a_strategy_that_is_not_there_is_a_configuration_error(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"balancing\.strategy"):
        own(path, "nobody")


def test_every_strategy_of_the_configuration_can_be_made() -> None:
    for name in STRATEGIES:
        strategy = balancer(BalancingConfig(strategy=name))  # type: ignore[arg-type]
        three = replicas(0, 0, 0)
        strategy.members(three)
        assert sum(picks(strategy, three, times=5, key="sess_1").values()) == 5
