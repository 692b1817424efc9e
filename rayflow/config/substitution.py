"""`${NAME}` and `${NAME:-default}` in the values of a workflow file, as in a shell; `$${` stands for `${` itself.

So a file can be kept with the code while its secrets are not. What a variable holds is not looked at for further
references.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rayflow.config.findings import Findings
from rayflow.config.layers import from_text
from rayflow.config.yaml import Value, join

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}|\$\{")


def substitute(value: Value, env: Mapping[str, str], findings: Findings, path: str = "") -> Value:
    """The same data with every reference replaced, except in what variables and flags have set. Faults go to
    `findings`, and so does what stood there before."""
    if path in findings.overrides:
        return value
    match value:
        case dict():
            return {key: substitute(each, env, findings, join(path, key)) for key, each in value.items()}
        case list():
            return [substitute(each, env, findings, join(path, str(i))) for i, each in enumerate(value)]
        case str() if "${" in value:
            return _replaced(value, env, findings, path)
        case _:
            return value


def _replaced(text: str, env: Mapping[str, str], findings: Findings, path: str) -> Value:
    def replacement(reference: re.Match[str]) -> str:
        if reference[0] == "$${":
            return "${"
        name, default = reference["name"], reference["default"]
        if name is None:
            findings.add(path, "${NAME} or ${NAME:-default}", repr(text), "write $${ where ${ itself is meant")
            return ""
        if default is not None:
            return env.get(name) or default.removeprefix(":-")
        if name not in env:
            hint = f"set it, or give a default: ${{{name}:-default}}"
            findings.add(path, f"the environment variable {name} to be set", "nothing", hint)
        return env.get(name, "")

    result = _REFERENCE.sub(replacement, text)
    findings.written[path] = text
    return from_text(result, path, findings)
