"""Files that are made from code: `make dashboards` writes them, `make lint` compares them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml


def write_or_check(path: Path, text: str, arguments: Sequence[str]) -> int:
    """Write a file; with `--check` say whether it is up to date instead: 1 if it is not."""
    if [*arguments] != ["--check"]:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    elif not path.exists() or path.read_text() != text:
        sys.stderr.write(f"{path.name} is not what is made from the code: run `make dashboards`\n")
        return 1
    return 0


def as_yaml(value: Any) -> str:
    """YAML in the order of the value, texts of several lines as such, and nothing as a reference."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=200)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
