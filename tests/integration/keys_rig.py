"""API keys as operators make them and clients send them, for the tests of a real gateway."""

import subprocess
import sys
import time
from pathlib import Path

from tests.callers import over_http
from tests.serving import ROOT, StartedGateway

SOON = 10.0


def new_key(file: Path, name: str, *options: str) -> str:
    """A key made as an operator makes it."""
    command = [sys.executable, "-m", "gateway.keys", "new", name, "--file", str(file), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def until_known(gateway: StartedGateway, key: str) -> None:
    """Wait until the gateway has read the file again."""
    give_up = time.monotonic() + SOON
    while over_http(gateway.http, "GET", "/v2", headers=bearer(key)).status == 401:
        assert time.monotonic() < give_up
        time.sleep(0.1)
