"""When an answer is given again (docs/caches.md)."""

from __future__ import annotations

from rayflow.policies.caching.results import Keys, Question, keeps, repeats

__all__ = ["Keys", "Question", "keeps", "repeats"]
