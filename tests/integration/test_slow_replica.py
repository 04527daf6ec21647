"""The parts of the comparison under one slow replica: the stand-in's pace, the open loop, the table."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests import paced_replica
from loadtests.open_loop import Outcome, drive
from loadtests.slow_replica import HAPROXY, table
from services.launch import Running, free_port
from tests.serving import ROOT

SECONDS, SLOWDOWN = 0.002, 50.0


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[tuple[Running, str]]:
    port = free_port()
    launch = paced_replica.launch(folder=tmp_path, root=ROOT, port=port, seconds=SECONDS, slowdown=SLOWDOWN)
    with Running(launch) as running:
        yield running, f"127.0.0.1:{port}"


async def test_every_request_gets_its_own_answer_and_takes_its_time(replica: tuple[Running, str]) -> None:
    running, address = replica
    quick = await drive(address, rate=100, count=40, seed=1)
    assert (quick.failed, len(quick.seconds)) == ([], 40)
    assert min(quick.seconds) >= SECONDS
    running.process.send_signal(signal.SIGUSR1)
    slow = await drive(address, rate=50, count=4, seed=2)
    assert slow.failed == []
    # one at a time: the last waits for those before it, which came within a fraction of one inference
    assert min(slow.seconds) >= SECONDS * SLOWDOWN
    assert max(slow.seconds) > 2 * SECONDS * SLOWDOWN


async def test_what_is_not_answered_is_a_failure() -> None:
    outcome = await drive(f"127.0.0.1:{free_port()}", rate=100, count=3, seed=1)
    assert outcome.seconds == []
    assert [text.partition(":")[0] for text in outcome.failed] == ["UNAVAILABLE"] * 3


def test_the_table_holds_each_path_against_haproxy() -> None:
    outcomes = {
        HAPROXY: Outcome([0.02] * 95 + [0.4] * 5),
        "Inferway": Outcome([0.02] * 94 + [0.1] * 5, ["UNAVAILABLE: gone"]),
    }
    rows = table(outcomes).splitlines()
    assert rows[2] == f"| {HAPROXY} | 100 | 0 | 20 | 20 | 400 | 400 | 1.00 |"
    assert rows[3] == "| Inferway | 100 | 1 | 20 | 20 | 100 | 100 | 0.25 |"
