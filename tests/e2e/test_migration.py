"""The guide from TorchServe does what it says: its commands run in order, and print what stands under them.

The page is the script. Only its ports are others here, and its folder is a temporary one.
"""

import doctest
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.launch import free_port, kill_group
from tests.docs.pages import text
from tests.serving import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

PAGE = "migrate-from-torchserve.md"
NOT_RUN = "Not run by the test"
"""How the paragraph above a block begins whose commands are left out; it goes on with the reason."""
BLOCK = re.compile(r"^```sh\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
PORT = re.compile(r"(?<![\d.])[789]\d{3}(?!\d)")
NEXT = "==== next block ===="
MATCHING = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
RUN_SECONDS, GONE_SECONDS = 540, 10


@dataclass(frozen=True, slots=True)
class Block:
    """Commands, and what the page says that they print: `...` is anything, and nothing is any output."""

    commands: str
    output: str


def _blocks(page: str) -> Iterator[Block]:
    ports: dict[str, str] = {}

    def moved(port: re.Match[str]) -> str:
        while port[0] not in ports:
            free = str(free_port())
            if free not in ports.values():
                ports[port[0]] = free
        return ports[port[0]]

    for found in BLOCK.finditer(page):
        above = page[: found.start()].rstrip().rpartition("\n\n")[2]
        if not above.startswith(NOT_RUN):
            yield Block(*(PORT.sub(moved, part or "") for part in found.groups()))


def _run(commands: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, output and errors of a script, of which no process is left afterwards."""
    outputs = folder / "stdout", folder / "stderr"
    with outputs[0].open("wb") as out, outputs[1].open("wb") as errors:
        script = subprocess.Popen(
            ["bash", "-c", commands], cwd=folder, stdout=out, stderr=errors, start_new_session=True
        )
    try:
        code = script.wait(RUN_SECONDS)
        if code == 0:
            _until_gone(script.pid)
    finally:
        kill_group(script.pid)
    return code, outputs[0].read_text(), outputs[1].read_text()


def _until_gone(group: int) -> None:
    """Wait until a process group has no process; AssertionError when one stays."""
    give_up = time.monotonic() + GONE_SECONDS
    while time.monotonic() < give_up:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("the page leaves a process behind")


def test_every_command_runs_and_prints_what_the_page_says(tmp_path: Path) -> None:
    blocks = list(_blocks(text(PAGE)))
    for name in ("build", "gateway", "models", "services", ".venvs"):
        (tmp_path / name).symlink_to(ROOT / name)
    script = "".join(f"echo '{NEXT}'\n{block.commands}" for block in blocks)
    code, out, errors = _run(f"set -euo pipefail\n{script}", tmp_path)
    printed = out.split(f"{NEXT}\n")[1:]
    assert code == 0, f"{blocks[len(printed) - 1].commands}\n{printed[-1]}\n{errors}"
    assert len(printed) == len(blocks)
    for block, got in zip(blocks, printed, strict=True):
        if block.output:
            same = doctest.OutputChecker().check_output(block.output, got, MATCHING)
            assert same, f"{block.commands}\nexpected:\n{block.output}\ngot:\n{got}"


def test_a_block_that_is_not_run_is_left_out_and_ports_keep_their_names() -> None:
    page = (
        f"{NOT_RUN}, since it needs a cluster:\n\n```sh\nfirst\n```\n\nThen:\n\n"
        "```sh\ncurl :8080 :7070 0.7070\n```\n\n```text\nfrom 8080\n```\n"
    )
    (block,) = _blocks(page)
    numbers = re.findall(r"\d+", block.commands)
    assert block.output == f"from {numbers[0]}\n"
    assert block.commands.endswith(" 0.7070\n")
    assert {"8080", "7070"}.isdisjoint(numbers[:2])
