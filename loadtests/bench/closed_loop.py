"""A closed loop over HTTP: `wrk` with distinct inputs; who is answered asks again at once."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("cycle.lua")


class LoadFailed(RuntimeError):
    """A request was not answered with 200, or wrk could not run: there is no figure then."""


@dataclass(frozen=True, slots=True)
class Loop:
    """What came of one closed loop.

    Attributes:
        requests: how many were answered.
        seconds: how long it took.
        p50_ms: half of the answers took no longer.
        p99_ms: 99 of 100 took no longer.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Throughput, requests a second."""
        return self.requests / self.seconds


def http_loop(address: str, requests: Sequence[bytes], *, connections: int, seconds: int) -> Loop:
    """Send whole HTTP requests in turn, again and again.

    Args:
        address: host:port.
        requests: each with its head; wrk keeps them in memory.
        connections: with one request in flight each.
        seconds: how long; wrk knows whole ones only.

    Raises:
        LoadFailed: see there.
    """
    program = shutil.which("wrk")
    if program is None:
        raise LoadFailed("wrk is not installed (Debian: apt-get install wrk)")
    with tempfile.NamedTemporaryFile() as file:
        for request in requests:
            file.write(b"%d\n%s" % (len(request), request))
        file.flush()
        argv = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
        argv += ["-s", str(SCRIPT), f"http://{address}/", "--", file.name]
        try:
            ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=seconds + 60)
        except subprocess.TimeoutExpired as error:
            raise LoadFailed(f"wrk against {address} did not end") from error
    return read_report(address, ended.stdout, ended.stderr)


def read_report(address: str, printed: str, said: str = "") -> Loop:
    """The loop that `cycle.lua` printed, after what wrk prints itself.

    Raises:
        LoadFailed: it printed none, or counts failures.
    """
    last = printed.strip().rpartition("\n")[2]
    if not last.startswith("{"):
        raise LoadFailed(f"wrk against {address}: {said.strip() or last or 'printed nothing'}")
    report = json.loads(last)
    if report.pop("failed"):
        raise LoadFailed(f"{address} did not answer every request with 200: {last}")
    return Loop(**report)
