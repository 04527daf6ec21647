"""The local stack's bookkeeping: whose process is it, what does the table say, what is left after a crash."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services import local
from services.launch import Launch, LaunchError, Running, free_port
from services.local import down, table
from services.local_processes import MARK, NotStopped, Server, facts, is_alive, members, stop
from services.local_record import Part, Record, forget, load
from services.local_stacks import Stack
from services.local_up import GATEWAY, Bringing, StackError, check_ports

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
"""A server that is ready at once."""
LEAVES_A_WORKER = [
    sys.executable,
    "-c",
    "import os, time; os.fork(); time.sleep(60)",
]


def _process(
    proc: Path, pid: int, *, session: int, ticks: int, state: str = "S", environ: bytes = b""
) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    middle = " ".join(["0"] * 15)
    (folder / "stat").write_text(f"{pid} (a) b) {state} 1 {session} {session} {middle} {ticks} 0 0\n")
    (folder / "environ").write_bytes(environ)


def _launch(tmp_path: Path, name: str = "sleeper", argv: list[str] | None = None) -> Launch:
    return Launch(name, argv or SLEEP, lambda: True, tmp_path / f"{name}.log", timeout_seconds=5)


@pytest.fixture
def bringing(tmp_path: Path) -> Iterator[Bringing]:
    one = Bringing(Record(stack="test"), tmp_path)
    yield one
    for running in one.started.values():
        running.stop()


def test_a_process_is_known_by_its_id_and_its_start(tmp_path: Path) -> None:
    _process(tmp_path, 7, session=7, ticks=500)
    assert is_alive(Server(7, 500, "run"), tmp_path)
    assert members(Server(7, 500, "run"), tmp_path) == [7]


def test_a_stranger_that_got_the_id_is_left_alone(tmp_path: Path) -> None:
    _process(tmp_path, 7, session=7, ticks=900, environ=f"{MARK}=run".encode())
    assert not is_alive(Server(7, 500, "run"), tmp_path)
    assert members(Server(7, 500, "run"), tmp_path) == []


def test_a_zombie_has_ended(tmp_path: Path) -> None:
    _process(tmp_path, 7, session=7, ticks=500, state="Z")
    assert facts(7, tmp_path) is None


def test_workers_of_a_server_that_is_gone_are_known_by_their_mark(tmp_path: Path) -> None:
    _process(tmp_path, 8, session=7, ticks=501, environ=f"A=b\0{MARK}=run\0".encode())
    _process(tmp_path, 9, session=7, ticks=502, environ=f"{MARK}=other\0".encode())
    _process(tmp_path, 10, session=10, ticks=503, environ=f"{MARK}=run\0".encode())
    assert members(Server(7, 500, "run"), tmp_path) == [8]


def test_what_a_killed_server_left_behind_is_stopped(bringing: Bringing, tmp_path: Path) -> None:
    bringing.bring(Stack({}, {}, _launch(tmp_path, GATEWAY, LEAVES_A_WORKER), ""))
    part = bringing.record.find(GATEWAY)
    assert part is not None
    assert part.server is not None
    while len(members(part.server)) < 2:  # until the worker is there
        assert is_alive(part.server)
    bringing.started[GATEWAY].process.kill()
    bringing.started[GATEWAY].process.wait()
    assert len(members(part.server)) == 1
    stop(part.server)
    assert members(part.server) == []


def test_workers_of_a_server_that_ends_before_it_is_ready_end_with_it(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import os, time; os.fork() and os._exit(3); time.sleep(60)"]
    launch = replace(_launch(tmp_path, argv=argv), is_ready=lambda: False, env={MARK: str(tmp_path)})
    running = Running(launch)
    with pytest.raises(LaunchError, match="sleeper ended with 3: it printed nothing"):
        running.wait_ready()
    give_up = time.monotonic() + 5
    while members(Server(running.pid, 0, str(tmp_path))):
        assert time.monotonic() < give_up


def test_what_cannot_be_stopped_keeps_nothing_else_from_being_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[int] = []

    def stop(server: Server) -> None:
        stopped.append(server.pid)
        if server.pid == 8:
            raise NotStopped("still there after SIGKILL: 8")

    monkeypatch.setattr(local, "stop", stop)
    record = Record()
    for pid in (7, 8, 9):
        record = record.with_part(Part(str(pid), Server(pid, 0, "run")))
    record.save(tmp_path)
    with pytest.raises(NotStopped, match="still there after SIGKILL: 8"):
        down(tmp_path)
    assert stopped == [9, 8, 7]
    assert load(tmp_path) == record


def test_a_record_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    running = Part("redis", Server(7, 500, "run"), {"redis": "127.0.0.1:6379"}, "run/redis.log")
    record = Record("full", (running, Part("triton", skipped="no environment")))
    record.save(tmp_path)
    assert load(tmp_path) == record
    forget(tmp_path)
    assert load(tmp_path).parts == ()


def test_a_part_that_is_started_again_keeps_its_place() -> None:
    record = Record("full", (Part("redis", skipped="broken"), Part("gateway")))
    assert [part.name for part in record.with_part(Part("redis")).parts] == ["redis", "gateway"]


def test_a_record_from_before_a_reboot_counts_for_nothing(tmp_path: Path) -> None:
    Record("full", (Part("redis", Server(1, 1, "run")),), boot_id="another boot").save(tmp_path)
    assert load(tmp_path).parts == ()


def test_the_table_says_what_runs_where_and_why_not() -> None:
    own = facts(os.getpid())
    assert own is not None
    running = Part("redis", Server(own.pid, own.started_ticks, ""), {"redis": "127.0.0.1:6379"})
    stopped = Part(
        "torchserve", Server(own.pid, own.started_ticks + 1, ""), log="run/torchserve/torchserve.log"
    )
    skipped = Part("triton", skipped="run `make env-triton`")
    lines = table(Record("full", (running, stopped, skipped))).splitlines()
    assert lines[0].split() == ["NAME", "STATE", "PID", "ADDRESSES"]
    assert lines[1].split() == ["redis", "running", str(own.pid), "redis", "127.0.0.1:6379"]
    assert lines[2].startswith("torchserve  stopped")
    assert lines[2].endswith("run/torchserve/torchserve.log")
    assert lines[3].split(maxsplit=3) == ["triton", "skipped", "-", "run `make env-triton`"]


def test_a_part_that_cannot_start_is_skipped_and_the_rest_goes_on(bringing: Bringing, tmp_path: Path) -> None:
    def missing() -> Launch:
        raise LaunchError("no\n  environment")

    engines = {"absent": missing, "there": lambda: _launch(tmp_path)}
    bringing.bring(Stack({}, engines, _launch(tmp_path, GATEWAY), ""))
    assert bringing.is_up("there")
    assert bringing.is_up(GATEWAY)
    assert load(tmp_path).find("absent") == Part("absent", skipped="no environment")


def test_without_any_engine_there_is_no_gateway(bringing: Bringing, tmp_path: Path) -> None:
    gone = Launch("gone", [sys.executable, "-c", "print('no memory')"], lambda: False, tmp_path / "gone.log")
    with pytest.raises(StackError, match="no engine"):
        bringing.bring(Stack({}, {"gone": lambda: gone}, _launch(tmp_path, GATEWAY), ""))
    part = bringing.record.find("gone")
    assert part is not None
    assert "no memory" in part.skipped
    assert bringing.record.find(GATEWAY) is None


def test_what_runs_already_is_left_alone(bringing: Bringing, tmp_path: Path) -> None:
    stack = Stack({}, {"there": lambda: _launch(tmp_path)}, _launch(tmp_path, GATEWAY), "")
    bringing.bring(stack)
    before = bringing.record
    bringing.bring(stack)
    assert bringing.record == before


def test_a_taken_port_is_named_with_the_setting_that_moves_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ports = {"http": f"127.0.0.1:{free_port()}", "grpc": address}
        gateway = Launch(GATEWAY, SLEEP, lambda: True, tmp_path / "log", addresses=ports)
        with pytest.raises(LaunchError, match=f"{address}.*INFERWAY_SERVER__GRPC_PORT"):
            check_ports(gateway)
