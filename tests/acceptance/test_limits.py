"""Limits and tenants of a workflow on Ray: nobody gets more than the budget, also not with the help of kill -9."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.served import Served, served

WORKFLOW = {
    "name": "shared",
    "agents": [{"name": "helper", "system_prompt": "The office opens at nine."}],
    "limits": {"user": {"max_requests": 20, "period": "total"}},
    "tenants": [{"name": "acme", "api_keys": ["acme-key"]}, {"name": "bolt", "api_keys": ["bolt-key"]}],
}


def ask(server: Served, tenant: str, user: str, session: str = "") -> tuple[int, dict[str, str]]:
    body = {"model": "auto", "user": user, "messages": [{"role": "user", "content": "When does the office open?"}]}
    headers = {"authorization": f"Bearer {tenant}-key", **({"x-session-id": session} if session else {})}
    status, answered, _ = server.request("POST", "/v1/chat/completions", body, headers)
    return status, answered


def flood(server: Served, tenant: str, user: str, times: int) -> list[tuple[int, dict[str, str]]]:
    with ThreadPoolExecutor(16) as clients:
        return list(clients.map(lambda _: ask(server, tenant, user), range(times)))


def test_a_budget_holds_under_concurrency_and_through_the_death_of_who_keeps_it(folder: Path) -> None:
    (folder / "rayflow.yaml").write_text(json.dumps(WORKFLOW))
    with served(cwd=folder) as server:
        answers = flood(server, "acme", "ada", 12)
        next(p for p in server.family() if "ray::Accounts" in " ".join(p.cmdline())).kill()
        answers += flood(server, "acme", "ada", 48)
        assert Counter(status for status, _ in answers) == {200: 20, 429: 40}
        assert all(int(headers["retry-after"]) > 0 for status, headers in answers if status == 429)
        # Others have budgets of their own: another user, and the same name at another tenant.
        assert [ask(server, "acme", "grace")[0], ask(server, "bolt", "ada")[0]] == [200, 200]
        assert server.stop() == 0
    with served(cwd=folder) as again:
        assert ask(again, "acme", "ada")[0] == 429
        assert again.stop() == 0


def test_a_tenant_does_not_see_the_sessions_of_another(folder: Path) -> None:
    (folder / "rayflow.yaml").write_text(json.dumps(WORKFLOW))
    with served("--in-process", cwd=folder) as server:
        assert ask(server, "acme", "ada", "plans")[0] == 200
        seen = {
            tenant: server.request("GET", "/sessions/plans/history", headers={"authorization": f"Bearer {tenant}-key"})
            for tenant in ("acme", "bolt")
        }
        assert (seen["acme"][0], seen["bolt"][0]) == (200, 404)
        assert server.request("GET", "/sessions/plans/history")[0] == 401
        assert server.stop() == 0
