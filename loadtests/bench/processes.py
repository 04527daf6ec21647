"""What a system has cost: the CPU time of its processes."""

from collections.abc import Mapping

import psutil

from loadtests.bench.closed_loop import LoadFailed


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of all below it that run, all threads; 10 ms at best.

    Raises:
        LoadFailed: the process itself has ended.
    """
    try:
        root = psutil.Process(pid)
        running = (root, *root.children(recursive=True))
    except psutil.NoSuchProcess as error:
        raise LoadFailed(f"process {pid} has ended") from error
    total = 0.0
    for process in running:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # ended since it was listed
            continue
        total += times.user + times.system
    return total


class Meter:
    """Reads processes before and after a load.

    Args:
        pids: by the name under which each is reported.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._before = {name: cpu_seconds(pid) for name, pid in pids.items()}

    def microseconds(self, requests: int) -> dict[str, float]:
        """CPU microseconds of each since the meter was made, divided by the requests."""
        return {
            name: (cpu_seconds(pid) - self._before[name]) / requests * 1e6 for name, pid in self._pids.items()
        }
