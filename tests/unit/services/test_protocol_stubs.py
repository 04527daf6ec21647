"""The generated messages, and the package that must be there to read them."""

import re
from pathlib import Path

from tests.unit.test_imports import PYPROJECT, ROOT


def test_the_oldest_protobuf_that_pyproject_allows_can_load_the_generated_messages() -> None:
    (allowed,) = re.findall(r'"protobuf>=([0-9.]+)"', PYPROJECT.read_text())
    for stub in Path(ROOT, "services/protocol").glob("*_pb2.py"):
        needed = re.search(r"Version\(\s*[\w.]+,\s*(\d+),\s*(\d+),\s*(\d+)", stub.read_text())
        assert needed is not None, stub.name
        assert tuple(map(int, allowed.split("."))) >= tuple(map(int, needed.groups())), stub.name
