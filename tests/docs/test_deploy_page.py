"""docs/deploy.md: each section with commands says what tests them, or that nothing can; its files exist."""

import re

import pytest

from tests.docs.pages import ROOT, text

SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text("deploy.md"), re.DOTALL | re.MULTILINE))
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def test_every_way_of_the_table_has_a_section() -> None:
    assert {"Laptop", "Compose", "Cluster", "GPU", "What is not testable here"} <= SECTIONS.keys()


@pytest.mark.parametrize("name", [name for name, section in SECTIONS.items() if BLOCK.search(section)])
def test_commands_say_who_tests_them(name: str) -> None:
    named = re.findall(r"`(tests/[\w./]+)`", SECTIONS[name])
    assert named or "not testable here" in SECTIONS[name].lower()
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_file_of_a_command_exists() -> None:
    commands = "\n".join(BLOCK.findall(text("deploy.md")))
    paths = re.findall(r"(?<![\w/.])(?:deploy|models|services)/[\w./-]+|docker-compose\.yml", commands)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
