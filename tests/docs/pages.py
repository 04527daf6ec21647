"""Reads the project's own Markdown pages, so that tests can hold them against the code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def text(name: str) -> str:
    """A page of docs/."""
    return (DOCS / name).read_text()


def fenced(page: str, language: str) -> list[str]:
    """The fenced blocks of a language, a regular expression."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def rows(page: str, head: str) -> list[list[str]]:
    """The cells of the table whose first heading is `head`; backticks around a whole cell are taken off."""
    lines = page[page.index(f"| {head} |") :].partition("\n\n")[0].splitlines()[2:]
    return [[plain(cell) for cell in line.strip()[1:-1].split("|")] for line in lines]


def plain(cell: str) -> str:
    """A cell without blanks around it, and without backticks around the whole of it."""
    whole = re.fullmatch(r"`([^`]*)`", cell.strip())
    return whole[1] if whole else cell.strip()
