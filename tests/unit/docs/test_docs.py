"""What the documentation says about the code, compared with the code."""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from rayflow.cli import app
from rayflow.cli.reference import commands, update
from rayflow.config.reference import reference
from rayflow.errors import Exit
from rayflow.events import EVENTS

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
COMMANDS = commands(app)
KEYS = dict(re.findall(r"^\| `([\w.]+)` \|.*\| `(RAYFLOW_\w+)` \|$", reference(), re.MULTILINE))
SWITCHES = {"RAYFLOW_DEBUG"}
"""Variables that are not keys of the configuration."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of the headings, as they are made where Markdown is shown."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def typed(page: Path) -> Iterator[list[str]]:
    """The words of each command in the shell blocks, without the variables before it."""
    for block in (*blocks(page, "sh"), *blocks(page, "console")):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.match(r"\w+=", words[0]):
                words.pop(0)
            if words:
                yield words


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        leads_to = (page.parent / path).resolve() if path else page
        assert leads_to.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(leads_to), f"{page.name} links to {target}"


def test_every_page_can_be_found_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.name == "index.md" or f"({page.relative_to(ROOT / 'docs')})" in index, page


@each_page
def test_commands_and_options_exist(page: Path) -> None:
    for words in typed(page):
        if words[0].startswith("scripts/"):
            assert os.access(ROOT / words[0], os.X_OK), words
        if words[0] != "rayflow":
            continue
        name = next((n for n in (" ".join(words[:3]), " ".join(words[:2])) if n in COMMANDS), None)
        assert name is not None, f"{page.name}: there is no command {' '.join(words)!r}"
        options = {option for param in COMMANDS[name].params for option in param.opts}
        for word in words:
            if word.startswith("-"):
                assert word.partition("=")[0] in options, f"{page.name}: {name} has no {word}"


@each_page
def test_configuration_keys_exist(page: Path) -> None:
    sections = {key.partition(".")[0] for key in KEYS}
    named = set(re.findall(r"`(\w+(?:\.\w+)+)(?:: [^`]*)?`", prose(page)))
    named |= {word.partition("=")[0] for words in typed(page) for word in words if "=" in word and "." in word}
    for key in named:
        if key.partition(".")[0] in sections and key not in EVENTS and not key.endswith((".py", ".md")):
            known = re.sub(r"\.\d+\b", ".N", key)
            assert known in KEYS or any(k.startswith(f"{known}.") for k in KEYS), f"{page.name}: there is no key {key}"


@each_page
def test_variables_exist(page: Path) -> None:
    for variable in re.findall(r"\bRAYFLOW_\w*[A-Z]", page.read_text()):
        known = re.sub(r"__\d+__", "__N__", variable)
        assert known in KEYS.values() or known in SWITCHES, f"{page.name}: nobody reads {variable}"


@each_page
def test_python_examples_import_what_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rayflow"):
                for alias in node.names:
                    assert hasattr(import_module(node.module), alias.name), f"{page.name}: {ast.unparse(node)}"


def test_the_table_of_exit_codes_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| \S", page, re.MULTILINE)
    assert [(int(code), name) for code, name in rows] == [(exit_.value, exit_.name) for exit_ in Exit]


def test_the_page_of_commands_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert update(page, app) == page, "paste the output of `python -m rayflow.cli.reference` between the markers"


def test_the_version_has_its_entry_in_the_changelog() -> None:
    from rayflow import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
