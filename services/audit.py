"""Asks whether a known vulnerability is in what the gateway and its tests are made of: `make lint`.

pip-audit asks the package index about each line of constraints.txt. A vulnerability is a failure. Where there
is no answer it says, loudly, that nothing was audited, and asks again after an hour. An answer holds for a
day, as long as constraints.txt stays as it is.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
STAMP = ROOT / "build" / "audit.json"
DAY_SECONDS = 86_400
HOUR_SECONDS = 3_600
LIMIT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Audit:
    """What came of an audit.

    Attributes:
        vulnerable: a line for each vulnerability.
        unknown: packages that the index knows nothing of.
        audited: how many it has answered for.
    """

    vulnerable: Sequence[str]
    unknown: Sequence[str]
    audited: int


def read(report: Any) -> Audit:
    """From pip-audit's report in JSON."""
    vulnerable, unknown, audited = [], [], 0
    for package in report["dependencies"]:
        if "skip_reason" in package:
            unknown.append(package["name"])
            continue
        audited += 1
        for found in package["vulns"]:
            mended = ", ".join(found["fix_versions"]) or "none yet"
            vulnerable.append(f"{package['name']} {package['version']}: {found['id']}; mended in: {mended}")
    return Audit(vulnerable, unknown, audited)


def main() -> int:
    """Audit constraints.txt; 1 if a vulnerability is known."""
    text = CONSTRAINTS.read_text()
    state = hashlib.sha256(text.encode()).hexdigest()
    stamp = json.loads(STAMP.read_text()) if STAMP.exists() else {}
    if stamp.get("state") == state and time.time() < stamp["until"]:
        return _not_audited(stamp["why"]) if stamp["why"] else 0
    pins = [line for line in text.splitlines() if "==" in line]
    try:
        audit = ask(pins[:1])  # an index without this knowledge is not asked about the others
        audit = ask(pins) if audit.audited else audit
        why = "" if audit.audited else "the package index here knows nothing of vulnerabilities"
    except (subprocess.TimeoutExpired, ValueError, LookupError) as error:
        audit, why = Audit([], [], 0), f"pip-audit has no answer: {type(error).__name__}"
    for line in audit.vulnerable:
        sys.stderr.write(f"vulnerable: {line}\n")
    if audit.vulnerable:
        return 1
    if audit.audited and audit.unknown:
        why = f"unknown to the package index: {', '.join(audit.unknown)}"
    seconds = HOUR_SECONDS if why else DAY_SECONDS
    STAMP.parent.mkdir(exist_ok=True)
    STAMP.write_text(json.dumps({"state": state, "until": time.time() + seconds, "why": why}))
    return _not_audited(why) if why else 0


def ask(pins: Sequence[str]) -> Audit:
    """What pip-audit says of `name==version` lines.

    Raises:
        subprocess.TimeoutExpired: nothing, for too long.
        ValueError: nothing that can be read; there is no network, mostly.
    """
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner=off"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(pins))
        requirements.flush()
        command += ["--format=json", "-r", requirements.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    return read(json.loads(done.stdout))


def _not_audited(why: str) -> int:
    sys.stderr.write(f"!!! NOT AUDITED for known vulnerabilities: {why}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
