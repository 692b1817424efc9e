"""Policies that users write: loaded from one file, checked, and fenced.

A policy of one's own is named as `FILE.py:NAME` or `package.module:NAME`. `NAME` is a class, made with the configured
options, or a plain function, called with them. It has the same interface as the built-in ones, and whatever it raises
stays behind a `Fence`: the error is logged, and the strategy's stated fallback decides.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from rayflow.errors import ConfigurationError

log = logging.getLogger(__name__)

T = TypeVar("T")


def is_own(strategy: str) -> bool:
    """Whether a strategy's name is a reference to a user's policy."""
    return ":" in strategy


def load(reference: str, options: Mapping[str, Any], key: str) -> Any:
    """The policy behind `FILE.py:NAME`: an instance of a class, or a function bound to its options. `key` is the
    configuration key, for messages.

    Raises `ConfigurationError` where the file, the name or the options are wrong.
    """
    place, _, name = reference.rpartition(":")
    try:
        found = getattr(_module(place), name)
    except AttributeError:
        raise ConfigurationError(f"{key}: {place} has no {name!r}", key=key) from None
    except Exception as error:
        raise ConfigurationError(
            f"{key}: {place} cannot be loaded: {type(error).__name__}: {error}", key=key
        ) from error
    if not callable(found):
        raise ConfigurationError(f"{key}: {name} in {place} is neither a class nor a function", key=key)
    try:
        return found(**options) if inspect.isclass(found) else partial(found, **options) if options else found
    except Exception as error:
        raise ConfigurationError(
            f"{key}: {name} does not take the options {dict(options)}: {error}", key=key
        ) from error


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place).absolute()
    name = f"rayflow_own_{path.stem}_{abs(hash(str(path))):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class Fence:
    """Between a user's policy and the runtime. `failures` counts what it raised; of these the 1st, 2nd, 4th, 8th ...
    are logged, so that a policy that always fails does not fill the disk."""

    def __init__(self, name: str, fallback: str) -> None:
        self._name = name
        self._fallback = fallback
        self.failures = 0

    def call(self, own: Callable[..., T], fallback: Callable[..., T], *arguments: Any) -> T:
        """What `own` says, or, where it raises, what `fallback` says."""
        try:
            return own(*arguments)
        except Exception as error:
            self.report(error)
            return fallback(*arguments)

    def report(self, error: Exception) -> None:
        """Its decision was none: an exception, or something that is not possible."""
        self.failures += 1
        if self.failures & (self.failures - 1) == 0:
            log.exception(
                "policy %s failed (time %d); %s decides: %s", self._name, self.failures, self._fallback, error
            )
