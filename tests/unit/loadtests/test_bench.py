"""The benchmark: its search, what it takes for a failure, and that nothing is skipped in silence."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from loadtests.bench import __main__ as command
from loadtests.bench import systems
from loadtests.bench.answers import WrongAnswer
from loadtests.bench.closed_loop import LoadFailed, Loop, read_report
from loadtests.bench.grpc_loop import frame, header_block
from loadtests.bench.http_client import ask_each
from loadtests.bench.measure import QUICK, Measured, ratio
from loadtests.bench.processes import cpu_seconds
from loadtests.bench.report import page
from loadtests.bench.server_scenario import largest_rate
from loadtests.bench.systems import running_peer
from services.launch import LaunchError
from tests.serving import ROOT


class FakeServer:
    """Keeps the bound up to a rate; `hiccups` are the attempts, counted from 1, that miss it all the same."""

    def __init__(self, capacity: float, hiccups: Sequence[int] = ()) -> None:
        self._capacity = capacity
        self._hiccups = hiccups
        self.rates: list[float] = []

    async def attempt(self, rate: float) -> bool:
        self.rates.append(rate)
        return rate <= self._capacity and len(self.rates) not in self._hiccups

    async def largest(self, *, tries: int = 1) -> float:
        rate, run = await largest_rate(self.attempt, bool, upper=1024.0, steps=8, tries=tries)
        assert run is (True if rate else None)
        return rate


@pytest.mark.parametrize("capacity", [5.0, 300.0, 700.5, 1023.0])
async def test_the_search_finds_the_largest_rate_that_keeps_the_bound(capacity: float) -> None:
    server = FakeServer(capacity)
    rate = await server.largest()
    assert rate <= capacity < rate + 1024 / 2**8
    assert len(server.rates) == 8


async def test_a_server_that_never_keeps_the_bound_has_the_rate_0() -> None:
    assert await FakeServer(0.0).largest() == 0.0


async def test_one_hiccup_does_not_halve_the_figure_where_a_rate_may_be_tried_again() -> None:
    assert await FakeServer(1000.0, hiccups=[1]).largest() < 512
    assert await FakeServer(1000.0, hiccups=[1]).largest(tries=2) > 990


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ('{"requests": 9, "seconds": 1, "failed": 1, "p50_ms": 1, "p99_ms": 2}', "every request with 200"),
        ("unable to connect to 127.0.0.1:1", "unable to connect"),
        ("", "printed nothing"),
    ],
)
def test_a_loop_with_a_failed_request_is_no_figure(printed: str, message: str) -> None:
    with pytest.raises(LoadFailed, match=message):
        read_report("127.0.0.1:1", f"Running 1s test\n{printed}\n" if printed else "")


def test_a_loop_is_read_from_the_last_line_that_was_printed() -> None:
    printed = 'Running 1s test\n{"requests": 90, "seconds": 1.5, "failed": 0, "p50_ms": 1.5, "p99_ms": 2}\n'
    loop = read_report("127.0.0.1:1", printed)
    assert loop == Loop(90, 1.5, 1.5, 2)
    assert loop.per_second == 60


def test_frames_are_as_the_standards_have_them() -> None:
    assert frame(0x6, 0x1, 0, b"12345678") == bytes.fromhex("000008 06 01 00000000") + b"12345678"
    # RFC 7541, 6.2.2: a literal without indexing, new name; 0, then length and text of both
    assert header_block([("te", "trailers")]) == b"\x00\x02te\x08trailers"


def test_throughputs_are_compared_in_pairs_since_the_machine_drifts() -> None:
    def rounds(*rates: int) -> list[Measured]:
        return [Measured(Loop(rate, 1.0, 1.0, 1.0), {}) for rate in rates]

    assert ratio(rounds(100, 10, 1000), rounds(50, 5, 400)) == 2.0


def test_a_peer_without_an_environment_fails_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "VENVS", tmp_path)
    with pytest.raises(LaunchError, match="MLServer has no environment: `make env-bench-mlserver`"):
        running_peer("mlserver", tmp_path / "run").__enter__()


def test_a_run_that_fails_says_why_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fail(*_: object) -> None:
        raise LaunchError("BentoML ended with 1")

    monkeypatch.setattr(command, "measure_all", fail)
    monkeypatch.setattr(command, "write", lambda *_, **__: pytest.fail("written"))
    assert command.main(["--quick"]) == 1
    assert "failed: BentoML ended with 1" in capsys.readouterr().err
    assert list(tmp_path.iterdir())  # the log is kept


def test_what_is_left_out_is_named_in_the_page() -> None:
    left_out = command.left_out(["triton", "mosec"], ["peers"])
    assert left_out == [
        *("HAProxy", "MLServer", "BentoML", "LitServe", "Ray Serve"),
        *("part `added`", "part `cost`", "part `larger`"),
    ]
    results = {"conditions": "2026", "mode": "full", "seconds": 1, "not_measured": left_out}
    options = {"rounds": 1, "seconds": 1, "images": 1, "open_seconds": 1}
    assert "Not measured in this run: HAProxy, MLServer, BentoML," in page({**results, "options": options})


def test_a_peer_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--peers", "mosek"])
    assert "not known: mosek" in capsys.readouterr().err


def test_the_page_shows_the_results_that_stand_beside_it() -> None:
    results = json.loads((ROOT / "docs" / "performance" / "results.json").read_text())
    assert page(results) in (ROOT / "docs" / "performance.md").read_text()


@pytest.mark.parametrize("error", [LoadFailed, LaunchError])
@pytest.mark.parametrize(
    ("failures", "row"),
    [
        (0, {"settings": "one worker"}),
        (1, {"settings": "one worker; failed in a first try, and was started once more"}),
        (2, {"title": "mosec"}),
    ],
)
def test_a_peer_that_fails_is_started_once_more_and_the_page_says_so(
    failures: int,
    row: dict[str, str],
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    started: list[Path] = []

    def compare(*_: object) -> dict[str, str]:
        if len(started) <= failures:
            raise error(f"it has ended: {tmp_path}/mosec/mosec.log, {ROOT}/loadtests")
        return {"settings": "one worker"}

    @contextmanager
    def running(folder: Path) -> Iterator[None]:
        started.append(folder)
        yield

    monkeypatch.setattr(command, "compare", compare)
    compared = command._compared("mosec", running, tmp_path, QUICK, None)  # type: ignore[arg-type]
    assert compared == (
        row if failures < 2 else {**row, "failed": "it has ended: mosec/mosec.log, loadtests"}
    )
    assert len(set(started)) == min(failures, 1) + 1


def test_an_answer_that_differs_ends_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def compare(*_: object) -> None:
        raise WrongAnswer("0.5 from the model's answer")

    monkeypatch.setattr(command, "compare", compare)
    with pytest.raises(WrongAnswer):
        command._compared("mosec", nullcontext, tmp_path, QUICK, None)  # type: ignore[arg-type]


def test_a_run_with_a_failed_peer_writes_its_page_names_the_peer_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shown = json.loads((ROOT / "docs" / "performance" / "results.json").read_text())
    failed = {"title": "Sloth", "failed": "ended with 1:\n a | b"}
    monkeypatch.setattr(command, "measure_all", lambda *_: {**shown, "systems": [*shown["systems"], failed]})
    assert command.main(["--no-write"]) == 1
    said = capsys.readouterr()
    assert "| Sloth | **failed: ended with 1: a / b** | - |" in said.out
    assert "- Sloth:" not in said.out
    assert "NOT MEASURED: Sloth failed: ended with 1:" in said.err
    assert list(tmp_path.iterdir())  # the logs are kept


async def test_a_system_that_is_not_there_is_a_failure_with_its_address() -> None:
    with pytest.raises(LoadFailed, match=r"127\.0\.0\.1:1 does not answer"):
        await ask_each("127.0.0.1:1", [b""])


def test_a_process_that_has_ended_has_cost_nothing_that_could_be_told() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(LoadFailed, match="has ended"):
        cpu_seconds(process.pid)
