"""Links lead somewhere, commands exist, paths exist, examples run: on every page of the project."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT, fenced, text

FOLDERS = ("gateway", "services", "models", "deploy", "docs", "tests", "loadtests", "requirements")
PAGES = sorted({*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))})
NAMES = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@every_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@every_page
def test_every_make_verb_is_in_the_makefile(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    verbs = " ".join(re.findall(r"^(?:\.PHONY:|ENVIRONMENTS :=)(.*)$", makefile, re.MULTILINE)).split()
    for command in _commands(page.read_text()):
        for verb in re.findall(r"\bmake ([a-z][a-z-]*)(?![\w-])", command):
            assert verb in verbs, command


@every_page
def test_every_python_command_names_its_environment(page: Path) -> None:
    for command in _commands(page.read_text()):
        assert not re.search(r"(?<![\w/])python3? -m ", command), command


def _commands(page: str) -> Iterator[str]:
    """What a reader may paste: lines of blocks without their comments, and code within a line."""
    blocks = "\n".join(fenced(page, "[a-z]*"))
    indented = re.findall(r"^ {4}(\S.*)$", page, re.MULTILINE)
    for line in (*blocks.splitlines(), *indented):
        yield line.partition("#")[0]
    yield from re.findall(r"`([^`\n]+)`", page)


@every_page
def test_every_path_in_backticks_exists(page: Path) -> None:
    for token in re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:py|md|ya?ml|toml|proto))`", page.read_text()):
        if "/" not in token:
            assert token in NAMES or (ROOT / token).exists(), token
        elif token.startswith(tuple(f"{folder}/" for folder in FOLDERS)):
            assert (ROOT / token).exists(), token


@pytest.mark.parametrize("name", ["adding-a-stage.md", "adding-a-backend.md"])
def test_the_examples_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    namespace: dict[str, Any] = {}
    for block in fenced(text(name), "python"):
        exec(compile(block, name, "exec"), namespace)  # noqa: S102 - our own pages
    rules = [value for key, value in namespace.items() if key.startswith("test_")]
    assert rules
    for rule in rules:
        rule()
