"""`make load SHAPE=soak`: also watches the gateway's memory and the latency: are they flat?"""

import json
import logging
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from loadtests import curves
from loadtests.conditions import conditions
from loadtests.shapes.curved import CurvedShape
from loadtests.soak import Recording, report, resident_bytes, work_seconds
from loadtests.users import tally

SAMPLE_SECONDS = 5.0
SETTINGS = ("num_users", "pace", "run_time", "models", "zipf", "catalogue", "seed")
_log = logging.getLogger(__name__)


class Soak(CurvedShape):
    """See `curves.soak`."""

    curve = (curves.soak,)


class Watch:
    """Records a run from its start, and writes the report at its end."""

    def __init__(self) -> None:
        self.recording = Recording()
        self._began = time.monotonic()

    def started(self, environment: Environment, **_: Any) -> None:
        """Begin to sample the memory."""
        self._began = time.monotonic()
        options: Any = environment.parsed_options
        # locust has made a greenlet of it
        threading.Thread(target=self._sample, args=(f"{options.admin}/metrics",), daemon=True).start()

    def answered(self, response_time: float, exception: Exception | None, **_: Any) -> None:
        """Record an answer; `response_time` is in milliseconds."""
        self.recording.answered(self._seconds(), response_time / 1000, failed=exception is not None)

    def ended(self, environment: Environment, **_: Any) -> None:
        """Write the report and print the verdict; a gateway that is not flat ends the program with 1."""
        options: Any = environment.parsed_options
        facts = {
            "conditions": conditions(["locust", "grpcio"]),
            "settings": {name: getattr(options, name) for name in SETTINGS},
            "answered_by": tally.summary(),
        }
        whole = report(self.recording.windows(self._seconds()), facts)
        path = Path(options.soak_report)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(whole, indent=1) + "\n")
        sys.stdout.write(f"soak: {whole['verdict']}\n")
        if not whole["is_flat"]:
            environment.process_exit_code = 1

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _sample(self, url: str) -> None:
        while True:
            try:
                with urllib.request.urlopen(url, timeout=SAMPLE_SECONDS) as page:  # noqa: S310 - as given
                    memory = resident_bytes(page.read().decode())
                self.recording.measured(self._seconds(), memory, work_seconds())
            except (OSError, ValueError) as error:
                _log.warning("no memory figure: %s", error)
            time.sleep(SAMPLE_SECONDS)


def add_options(parser: LocustArgumentParser) -> None:
    """Options of a soak alone."""
    parser.add_argument("--soak-report", required=True, help="where a soak's figures go")


_watch = Watch()
events.init_command_line_parser.add_listener(add_options)  # type: ignore[no-untyped-call]
events.test_start.add_listener(_watch.started)  # type: ignore[no-untyped-call]
events.request.add_listener(_watch.answered)  # type: ignore[no-untyped-call]
events.quitting.add_listener(_watch.ended)  # type: ignore[no-untyped-call]
