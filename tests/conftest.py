"""Settings for every test and every process a test starts."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

# How long an example takes says more about the machine than about the code.
settings.register_profile("rayflow", deadline=None)
settings.load_profile("rayflow")
