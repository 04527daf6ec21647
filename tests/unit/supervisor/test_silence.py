"""Which silent process is killed, and when: by its threads' states and CPU time, in awake seconds."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable

import pytest

from gateway.supervisor.silence import BLOCKED, BUSY, LOOK_SECONDS, STOPPED, Sight, Silence, see

SLEEPS, STOPS, TRACED = frozenset("S"), frozenset("T"), frozenset("t")
WORKS, AT_DISK, UNKNOWN = frozenset("SR"), frozenset("SD"), frozenset[str]()
LONG = [SLEEPS] * 400


def killed(
    states: Iterable[frozenset[str]], *, cpu: float = 0.0, tick: float = LOOK_SECONDS
) -> tuple[str, float]:
    """Why and after how many seconds, when each look finds these states; `cpu` is used a second."""
    silence = Silence()
    for look, state in enumerate(states, 1):
        at = 100.0 + look * tick
        if why := silence.look(Sight(at, state, cpu * at)):
            return why, at - 100.0
    return "", 0.0


def test_what_a_signal_has_stopped_is_killed_within_a_second() -> None:
    assert killed([STOPS] * 40) == (STOPPED, 0.75)


def test_what_was_stopped_for_a_moment_is_not() -> None:
    assert killed([STOPS, STOPS, SLEEPS] * 2 + [WORKS] * 8) == ("", 0.0)


def test_what_sleeps_is_blocked() -> None:
    assert killed(LONG) == (BLOCKED, 2.25)


@pytest.mark.parametrize("state", [WORKS, AT_DISK, TRACED, UNKNOWN])
def test_what_works_or_waits_for_a_core_or_a_disk_or_is_debugged_has_long(state: frozenset[str]) -> None:
    assert killed([state] * 400) == (BUSY, 15.0)


def test_what_burns_cpu_between_the_looks_works_too() -> None:
    assert killed(LONG, cpu=0.2) == (BUSY, 15.0)
    assert killed(LONG, cpu=0.05) == (BLOCKED, 2.25)


def test_one_sign_of_work_begins_the_wait_anew() -> None:
    assert killed([SLEEPS] * 8 + [WORKS] + LONG) == (BLOCKED, 9 * 0.25 + 2.0)


def test_time_in_which_nobody_looked_counts_for_little() -> None:
    """The machine was paused: the first looks after it say no more than any others."""
    assert killed([STOPS] * 2 + [SLEEPS], tick=7200.0) == ("", 0.0)
    assert killed([SLEEPS] * 8 + [WORKS] * 51, tick=7200.0) == ("", 0.0)


def test_a_real_process_is_seen_as_it_is() -> None:
    program = "import sys, threading; threading.Thread(target=input).start(); print(flush=True)"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        sight = see(child.pid, 1.0)
        assert (sight.at, sight.is_stopped) == (1.0, True)
        child.kill()
    assert see(child.pid, 2.0) == Sight(2.0, UNKNOWN, 0.0)
    mine = see(os.getpid(), 3.0)
    assert "R" in mine.states
    assert mine.cpu_seconds > 0
