"""Settings for every test and every process a test starts."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

# How long an example takes says more about the machine than about the code.
# `--hypothesis-profile thorough` looks longer.
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.register_profile("rayflow", deadline=None, max_examples=50)
settings.load_profile("rayflow")
