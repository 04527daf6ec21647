"""A test run that is told to stop ends what it has started: engines are in process groups of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from services.launch import kill_group

ROOT = Path(__file__).parents[2]
SOON = 30.0
TEST = """
import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.launch import Launch, Running

HERE = Path(__file__).parent
SLEEP = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    with Running(Launch("server", [sys.executable, "-c", SLEEP], lambda: True, HERE / "log")) as running:
        yield running


def test_waits(server: Running) -> None:
    (HERE / "pid").write_text(str(server.pid))
    try:
        time.sleep(600)
    except KeyboardInterrupt as told:
        (HERE / "told").write_text(str(told))
        raise


async def test_waits_in_a_loop(server: Running) -> None:
    (HERE / "pid").write_text(str(server.pid))
    await asyncio.sleep(600)
"""


@pytest.mark.parametrize(
    ("name", "number", "options"),
    [
        ("test_waits", signal.SIGTERM, []),
        ("test_waits", signal.SIGHUP, []),
        ("test_waits", signal.SIGTERM, ["--numprocesses=1"]),
        ("test_waits_in_a_loop", signal.SIGTERM, []),
        ("test_waits_in_a_loop", signal.SIGHUP, []),
    ],
)
def test_a_signal_ends_the_servers_that_the_run_has_started(
    tmp_path: Path, name: str, number: signal.Signals, options: list[str]
) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    # nohup, if this run was begun by it, has SIGHUP ignored
    run_it = ["env", "--default-signal=HUP", sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest"]
    command = [*run_it, f"{tmp_path}/test_it.py::{name}", *options]
    command += ["-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        pid = _started(tmp_path / "pid", run)
        os.kill(run.pid, number)
        printed, _ = run.communicate(timeout=SOON)
    try:
        assert not psutil.pid_exists(pid)
    finally:
        kill_group(pid)
    assert run.returncode == pytest.ExitCode.INTERRUPTED, printed
    if name == "test_waits":  # in whichever process: at once, and by this signal
        assert (tmp_path / "told").read_text() == number.name


def _started(file: Path, run: subprocess.Popen[str]) -> int:
    """The process id of the server, once the test waits."""
    give_up = time.monotonic() + SOON
    while not (file.exists() and file.read_text()):
        assert run.poll() is None, run.stdout and run.stdout.read()
        assert time.monotonic() < give_up
        time.sleep(0.1)
    return int(file.read_text())
