"""On what machine, with which versions and of which code a measurement was made."""

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]


def conditions(packages: Sequence[str]) -> str:
    """Date, machine, versions and commit, in one line without a full stop.

    Args:
        packages: whose versions matter.
    """
    model = next(
        (
            line.partition(": ")[2]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT
    ).stdout.strip()
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({model}), Python {platform.python_version()}, "
        f"{versions}; code {commit or 'unknown'}"
    )
