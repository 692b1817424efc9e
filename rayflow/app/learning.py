"""What routing learns with: classifiers trained in a process of their own and kept in the state folder, and models.

The same material is learnt once: the artefact is named by a hash of its content, and of several routers that start at
the same time one has it trained while the others wait. The child process lets scikit-learn and its memory go when it is
done; a router never has either.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import msgspec

from rayflow.actors.routes import RoutingMeans
from rayflow.app.children import end_with_parent, spawn
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ConfigurationError, WorkflowError
from rayflow.models.classifier.artefact import Artefact, load, save
from rayflow.models.classifier.linear import LinearScorer
from rayflow.models.classifier.material import Material, collect
from rayflow.models.classifier.nearest import NearestScorer
from rayflow.policies.own import is_own
from rayflow.policies.routing import RoutingPolicy, Scorer
from rayflow.runtime.ports import ModelClient

log = logging.getLogger(__name__)

EXTRA = "intelligent"


def routing_means(config: WorkflowConfig) -> RoutingMeans:
    """What the configured strategy needs, ready to be made. Raises `ConfigurationError` where it cannot be: the extra
    is not installed, an agent has nothing to learn from, a file cannot be read."""
    match config.routing.strategy:
        case "intelligent":
            material = collect(config.routing, config.agents)
            folder = artefacts_folder(config)
            if load(folder, material.key) is None:
                check_extra()
            return RoutingMeans(scorer=partial(_trained_scorer, material, folder))
        case "semantic":
            return RoutingMeans(scorer=partial(nearest_scorer, collect(config.routing, config.agents)))
        case "llm" if config.model(config.routing.model).provider == "offline":
            log.warning(
                "routing.model %r is no language model and cannot choose: the keyword strategy decides",
                config.routing.model,
            )
            return RoutingMeans()
        case "llm":
            return RoutingMeans(model=partial(_model, config))
        case _:
            return RoutingMeans()


def check(config: WorkflowConfig) -> None:
    """Raises `ConfigurationError`, before anything is started, for what would keep every router from starting."""
    routing_means(config)
    if is_own(config.routing.strategy):
        RoutingPolicy(config.routing, config.agents)


def artefacts_folder(config: WorkflowConfig) -> Path:
    return Path(config.storage.state) / "routing"


def check_extra() -> None:
    """Raises `ConfigurationError` where scikit-learn is not installed."""
    if find_spec("sklearn") is None:
        raise ConfigurationError(
            f"routing.strategy: intelligent needs scikit-learn: pip install 'rayflow[{EXTRA}]',"
            " or choose semantic, which needs nothing",
            key="routing.strategy",
            extra=EXTRA,
        )


async def nearest_scorer(material: Material) -> Scorer:
    """Built beside the loop: with thousands of examples it takes seconds."""
    return await asyncio.to_thread(NearestScorer, material)


async def trained(material: Material, folder: Path) -> Artefact:
    """The artefact of this material: from the folder, or trained now. Raises `ConfigurationError` where the extra is
    not installed, `WorkflowError` where training failed."""
    if (artefact := load(folder, material.key)) is not None:
        return artefact
    check_extra()
    process = await spawn("rayflow.app.learning", str(folder), stdin=msgspec.msgpack.encode(material))
    try:
        await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    artefact = load(folder, material.key)
    if artefact is None:
        raise WorkflowError(
            f"training the routing classifier failed (exit code {process.returncode}); its stderr says why",
            folder=str(folder),
        )
    return artefact


async def _trained_scorer(material: Material, folder: Path) -> Scorer:
    return LinearScorer(await trained(material, folder))


def _model(config: WorkflowConfig) -> ModelClient:
    from rayflow.models.factory import build

    return build(config.model(config.routing.model))


def train_in(folder: Path, material: Material) -> None:
    """In the child: train, unless somebody else has done it while we waited for our turn."""
    with _turn(folder):
        if load(folder, material.key) is None:
            from rayflow.models.classifier.training import train

            save(folder, train(material))


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One at a time; the kernel lets go when the holder ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    """`python -m rayflow.app.learning PARENT FOLDER`, with the material on stdin."""
    end_with_parent(int(sys.argv[1]))
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[threads] = "1"  # beside a system that serves
    train_in(Path(sys.argv[2]), msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Material))


if __name__ == "__main__":
    main()
