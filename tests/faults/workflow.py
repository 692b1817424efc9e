"""The workflow under test: two agents with two replicas each, two routers, two ingress processes, one fan-out rule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from faults.answers import prompt

AGENTS = ("alpha", "beta")


def write_workflow(
    file: Path, model_url: str, *, edition: int = 1, session: Mapping[str, object] = MappingProxyType({})
) -> None:
    """Write the workflow file, at once and whole. `edition` changes the agents' prompts."""
    workflow = {
        "name": "fault-team",
        "agents": [
            {
                "name": agent,
                "model": "upstream",
                "system_prompt": prompt(agent, edition),
                "replicas": {"min": 2, "max": 2},
            }
            for agent in AGENTS
        ],
        "models": [
            {
                "name": "upstream",
                "provider": "openai",
                "model": "fake",
                "base_url": model_url,
                "api_key": "none",
                "timeouts": {"connect_s": 2, "first_token_s": 2, "between_tokens_s": 2, "total_s": 20},
            }
        ],
        "routing": {
            "strategy": "keyword",
            "default_agent": "alpha",
            "rules": [
                {"name": "both", "keywords": ["both"], "target_agents": list(AGENTS)},
                {"name": "beta", "keywords": ["beta"], "target_agent": "beta"},
            ],
        },
        "processing": {"routers": 2, "ingress": 2},
        "session": dict(session),
        # As many actors as the harness counts, and an endpoint that is well again is asked again within a second.
        "scaling": {"strategy": "manual"},
        "resilience": {"breaker": {"open_s": 1.0, "max_open_s": 1.0}},
    }
    # JSON is YAML.
    new = file.with_suffix(".new")
    new.write_text(json.dumps(workflow, indent=1))
    new.replace(file)
