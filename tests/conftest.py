"""Settings for every test and every process a test starts."""

from __future__ import annotations

import os

os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
