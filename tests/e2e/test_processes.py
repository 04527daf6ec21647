"""Several gateway processes on one port: what a process loses when it dies, and what it does not."""

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
import yaml
from numpy.typing import NDArray

from gateway.cli.__main__ import main as inferway
from gateway.supervisor.silence import BLOCKED, BUSY, STOPPED
from services.protocol import open_inference_pb2 as oip
from tests.load import TOLERANCE, binary_request, distinct_images, read_reply, reference
from tests.serving import EMBEDDED, MODEL, ROOT, StartedGateway, answers_200, running_gateway

SOON = 40.0
CONNECTIONS = 12
FIRST_SHORT = 100
"""Channels with this number and above are for one call each."""
SETTINGS = {
    "endpoints": {"embedded": EMBEDDED, "other": EMBEDDED},
    "server": {"processes": 2, "drain_delay_seconds": 1.0},
}
COUNT = "gateway_request_duration_seconds_count"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[StartedGateway]:
    """One whose processes serve for the first time, and that may be ended."""
    with running_gateway(tmp_path, SETTINGS) as started:
        until(lambda: len(serving(started)) == 2, "both processes serve")
        yield started


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedGateway]:
    with running_gateway(tmp_path_factory.mktemp("lasting"), SETTINGS) as started:
        yield started


@pytest.fixture
def lasting(running: StartedGateway) -> StartedGateway:
    """One for the tests that leave it as they found it, though with other processes."""
    until(lambda: len(serving(running)) == 2, "both processes serve")
    return running


def until(holds: Any, what: str) -> None:
    give_up = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < give_up, what
        time.sleep(0.05)


def shown(gateway: StartedGateway, path: str) -> Any:
    with urllib.request.urlopen(f"http://{gateway.admin}/{path}", timeout=10) as reply:
        return json.load(reply)


def serving(gateway: StartedGateway) -> dict[int, int]:
    """The processes that serve, and their pids."""
    states = shown(gateway, "status")["processes"]
    return {state["process"]: state["pid"] for state in states if state["state"] == "serving"}


@dataclass(slots=True)
class Load:
    """Distinct requests over connections that stay, and one new connection after the other.

    Attributes:
        answered: how many had the right answer.
        failed: what became of the others, by the client's port.
        ends: set when no further request is to be sent.
    """

    gateway: StartedGateway
    images: NDArray[np.float32]
    answered: int = 0
    failed: dict[int, list[str]] = field(default_factory=dict)
    ends: asyncio.Event = field(default_factory=asyncio.Event)
    _next: int = 0
    _expected: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self._expected = reference(self.images)

    async def stay(self) -> None:
        """One request after the other on one connection; another connection once it has failed or ended."""
        while not self.ends.is_set():
            reader, writer = await asyncio.open_connection(*self.gateway.http.split(":"))
            with contextlib.suppress(ConnectionResetError):
                while not self.ends.is_set() and await self._one(reader, writer):
                    pass
            writer.close()

    async def come_and_go(self) -> None:
        """One new connection after the other, with one request each."""
        while not self.ends.is_set():
            reader, writer = await asyncio.open_connection(*self.gateway.http.split(":"))
            await self._one(reader, writer)
            writer.close()
            await asyncio.sleep(0.01)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on after one request."""
        index = self._next = (self._next + 1) % len(self.images)
        port = writer.get_extra_info("sockname")[1]
        try:
            writer.write(binary_request(self.images[index]))
            status, headers, body = await read_reply(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.failed.setdefault(port, []).append(repr(error))
            return False
        row = np.frombuffer(body[int(headers.get("inference-header-content-length", 0)) :], "<f4")
        if status != 200 or np.abs(row - self._expected[index]).max() > TOLERANCE:
            self.failed.setdefault(port, []).append(f"{status} {body[:200]!r}")
        else:
            self.answered += 1
        return headers.get("connection") != "close"


def ports_of(pid: int) -> set[int]:
    """The clients' ports of a process' connections."""
    return {c.raddr.port for c in psutil.Process(pid).net_connections("tcp") if c.raddr}


async def test_a_killed_process_costs_its_own_connections_one_request_each_and_nobody_else_any(
    gateway: StartedGateway,
) -> None:
    load = Load(gateway, distinct_images(400))
    work = [asyncio.create_task(load.stay()) for _ in range(CONNECTIONS)]
    work += [asyncio.create_task(load.come_and_go()) for _ in range(2)]
    counts: list[float] = []

    async def scrape() -> None:
        while not load.ends.is_set():
            counts.append(await asyncio.to_thread(gateway.metric, COUNT))
            await asyncio.sleep(0.2)

    work.append(asyncio.create_task(scrape()))
    await asyncio.sleep(1)
    victim = (await asyncio.to_thread(serving, gateway))[0]
    os.kill(victim, signal.SIGSTOP)  # it takes no further connection, so that its own are known
    await asyncio.sleep(0.1)
    lost = ports_of(victim)
    os.kill(victim, signal.SIGKILL)
    before = load.answered
    await asyncio.to_thread(until, lambda: serving(gateway).get(0, victim) != victim, "it is started again")
    load.ends.set()
    await asyncio.gather(*work)
    assert load.answered > before
    assert set(load.failed) <= lost
    assert all(len(failures) == 1 for failures in load.failed.values())
    assert counts == sorted(counts)
    assert counts[-1] > 0
    assert [state["restarts"] for state in shown(gateway, "status")["processes"]] == [1, 0]
    assert gateway.metric("gateway_process_restarts_total") == 1


async def test_a_killed_process_costs_grpc_one_call_on_each_of_its_connections_and_nobody_else_any(
    lasting: StartedGateway,
) -> None:
    image = distinct_images(1)[0]
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=[1, 28, 28, 1])
    asked = oip.ModelInferRequest(model_name=MODEL, inputs=[tensor], raw_input_contents=[image.tobytes()])
    failed: dict[int, list[float]] = {}
    ends = asyncio.Event()

    async def call(number: int, *, most: float = math.inf) -> None:
        """Calls on one channel, one after the other."""
        calls = 0
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(lasting.grpc, options=options) as channel:
            infer: Any = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=oip.ModelInferRequest.SerializeToString,
                response_deserializer=oip.ModelInferResponse.FromString,
            )
            while calls < most and not ends.is_set():
                calls += 1
                began = time.monotonic()
                try:
                    await infer(asked, timeout=SOON)
                except grpc.aio.AioRpcError:
                    failed.setdefault(number, []).append(began)

    async def come_and_go(numbers: range) -> None:
        for number in numbers:
            await call(number, most=1)
            if ends.is_set():
                return

    work = [asyncio.create_task(call(number)) for number in range(CONNECTIONS)]
    work += [
        asyncio.create_task(come_and_go(range(first, 10**6, 2))) for first in (FIRST_SHORT, FIRST_SHORT + 1)
    ]
    await asyncio.sleep(1)
    victim = (await asyncio.to_thread(serving, lasting))[1]
    os.kill(victim, signal.SIGSTOP)  # it takes no further connection, so that its own are known
    stopped = time.monotonic()
    await asyncio.to_thread(
        until, lambda: psutil.Process(victim).status() == psutil.STATUS_STOPPED, "it stands still"
    )
    await asyncio.sleep(0.2)  # in which others connect
    lost = len(ports_of(victim))
    assert lost >= CONNECTIONS // 2 - 2
    os.kill(victim, signal.SIGKILL)
    await asyncio.to_thread(until, lambda: serving(lasting).get(1, victim) != victim, "it is started again")
    ends.set()
    await asyncio.gather(*work)
    assert len(failed) <= lost
    assert all(len(began) == 1 for began in failed.values())
    assert [began for number, (began,) in failed.items() if number >= FIRST_SHORT and began > stopped] == []


async def test_a_process_that_is_told_to_end_loses_nothing(lasting: StartedGateway) -> None:
    load = Load(lasting, distinct_images(400))
    work = [asyncio.create_task(load.stay()) for _ in range(CONNECTIONS)]
    work += [asyncio.create_task(load.come_and_go()) for _ in range(2)]
    await asyncio.sleep(0.5)
    first = (await asyncio.to_thread(serving, lasting))[0]
    os.kill(first, signal.SIGTERM)
    await asyncio.to_thread(until, lambda: serving(lasting).get(0, first) != first, "it is started again")
    load.ends.set()
    await asyncio.gather(*work)
    assert (load.failed, load.answered > 0) == ({}, True)


async def test_the_whole_drains_without_loss_and_is_not_ready_meanwhile(gateway: StartedGateway) -> None:
    load = Load(gateway, distinct_images(400))
    work = [asyncio.create_task(load.stay()) for _ in range(CONNECTIONS)]
    pids = list((await asyncio.to_thread(serving, gateway)).values())
    await asyncio.sleep(0.5)
    supervisor = gateway.running.process
    supervisor.send_signal(signal.SIGTERM)
    ready = f"http://{gateway.admin}/readyz"
    await asyncio.to_thread(until, lambda: not answers_200(ready), "it says that it is not ready")
    load.ends.set()  # as a load balancer does that has seen it
    await asyncio.gather(*work)
    assert (load.failed, load.answered > 0) == ({}, True)
    await asyncio.to_thread(until, lambda: supervisor.poll() is not None, "it ends")
    assert supervisor.poll() == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)


STUCK = """
import signal, sys, time
from gateway.__main__ import main

def block(*_):
    print("stuck", file=sys.stderr, flush=True)
    time.sleep(600)

def burn(*_):
    print("stuck", file=sys.stderr, flush=True)
    while True:
        pass

signal.signal(signal.SIGUSR1, block)
signal.signal(signal.SIGUSR2, burn)
sys.exit(main())
"""
"""A gateway whose event loop does not go on after SIGUSR1 or SIGUSR2."""


@pytest.mark.parametrize(
    ("number", "why"), [(signal.SIGSTOP, STOPPED), (signal.SIGUSR1, BLOCKED), (signal.SIGUSR2, BUSY)]
)
async def test_a_process_that_hangs_takes_no_new_connection_and_is_replaced(
    tmp_path: Path, number: signal.Signals, why: str
) -> None:
    with running_gateway(tmp_path, SETTINGS, program=("-c", STUCK)) as gateway:
        log = gateway.running.launch.log
        await asyncio.to_thread(until, lambda: len(serving(gateway)) == 2, "both processes serve")
        load = Load(gateway, distinct_images(400))
        victim = (await asyncio.to_thread(serving, gateway))[0]
        held = await asyncio.to_thread(connection_to, gateway, victim)
        os.kill(victim, number)
        if number != signal.SIGSTOP:
            await asyncio.to_thread(until, lambda: "stuck" in log.read_text(), "it is stuck")
        held.sendall(binary_request(load.images[0]))
        work = asyncio.create_task(load.come_and_go())
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.to_thread(held.recv, 1) == b"", "its connections end with it"
        held.close()
        await asyncio.to_thread(until, lambda: serving(gateway).get(0, victim) != victim, "it is replaced")
        load.ends.set()
        await work
        assert load.failed == {}
        (killed,) = [line for line in log.read_text().splitlines() if '"process_killed"' in line]
        assert json.loads(killed)["why"] == why
        assert ('"process_hangs"' in log.read_text()) == (why != STOPPED)


def connection_to(gateway: StartedGateway, pid: int) -> socket.socket:
    """A connection that this process has taken."""
    host, port = gateway.http.split(":")
    kept = []
    try:
        while True:
            made = socket.create_connection((host, int(port)), SOON)
            kept.append(made)
            made.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert made.recv(4096).startswith(b"HTTP/1.1 200")
            if made.getsockname()[1] in ports_of(pid):
                return kept.pop()
    finally:
        for other in kept:
            other.close()


def test_a_process_that_dies_while_the_file_is_invalid_serves_what_was_valid_last(
    gateway: StartedGateway, tmp_path: Path
) -> None:
    def die(process: int) -> None:
        victim = serving(gateway)[process]
        os.kill(victim, signal.SIGKILL)
        until(lambda: serving(gateway).get(process, victim) != victim, "it is started again")

    def reloads(result: str) -> float:
        return gateway.metric("gateway_reloads_total", result=result)

    path, log = tmp_path / "inferway.yaml", gateway.running.launch.log
    valid = yaml.safe_load(path.read_text())
    changed = {
        **valid,
        "endpoints": {"embedded": EMBEDDED},
        "pools": [{"model": MODEL, "endpoints": ["embedded"]}],
    }
    path.write_text(yaml.safe_dump(changed))
    until(lambda: reloads("ok") == 2, "both have taken what changed while they ran")
    path.write_text("endpoints: [")
    until(lambda: reloads("invalid") == 2, "both have refused the file")
    die(0)
    die(1)
    assert log.read_text().count('"last_configuration_taken"') == 2
    rows = shown(gateway, "pools")["endpoints"]
    assert {(row["process"], row["endpoint"]) for row in rows} == {(0, "embedded"), (1, "embedded")}
    assert gateway.metric("gateway_reload_ok_ratio") == 0
    path.write_text(yaml.safe_dump(valid))
    until(lambda: gateway.metric("gateway_reload_ok_ratio") == 1, "both take the next valid file")
    assert {row["endpoint"] for row in shown(gateway, "pools")["endpoints"]} == {"embedded", "other"}


def started_by(path: Path, endpoint: dict[str, Any], **ports: int) -> list[str]:
    """The command line of two processes with this endpoint, on free ports but for those that are told."""
    free = dict.fromkeys(("http_port", "grpc_port", "admin_port"), 0)
    settings = {
        "server": {"processes": 2, **free, **ports},
        "models": [str(ROOT / "models" / MODEL)],
        "endpoints": {"embedded": endpoint},
        "pools": [{"model": MODEL, "endpoints": ["embedded"]}],
    }
    path.write_text(yaml.safe_dump(settings))
    return [sys.executable, "-m", "gateway", "--config", str(path)]


def test_a_configuration_that_cannot_be_used_is_told_once_and_ends_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "inferway.yaml"
    argv = started_by(path, {"backend": "onnxruntime", "repository": str(tmp_path)})
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert f"{path}:" in ended.stderr


@pytest.mark.parametrize("setting", ["http_port", "grpc_port"])
def test_a_port_that_another_takes_while_the_models_load_is_told_and_ends_the_whole(
    tmp_path: Path, setting: str
) -> None:
    log = tmp_path / "log"
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        argv = started_by(tmp_path / "inferway.yaml", EMBEDDED, **{setting: port})
        with log.open("w") as file, subprocess.Popen(argv, cwd=ROOT, stderr=file, stdout=file) as gateway:
            until(lambda: "supervisor_started" in log.read_text(), "its ports are bound")
            other.listen()
            assert gateway.wait(SOON) == 2
    (told,) = [line for line in log.read_text().splitlines() if "cannot listen" in line]
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in told
    assert f"free it, or set INFERWAY_SERVER__{setting.upper()}" in told
    assert "Traceback" not in log.read_text()


def test_a_process_that_is_started_after_their_number_was_changed_serves(
    gateway: StartedGateway, tmp_path: Path
) -> None:
    path = tmp_path / "inferway.yaml"
    settings = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**settings, "server": {**settings["server"], "processes": 3}}))
    victim = serving(gateway)[1]
    os.kill(victim, signal.SIGKILL)
    until(lambda: serving(gateway).get(1, victim) != victim, "it is started again")
    assert set(serving(gateway)) == {0, 1}


def test_a_killed_supervisor_leaves_no_process(gateway: StartedGateway) -> None:
    pids = list(serving(gateway).values())
    gateway.running.process.kill()
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), "they have ended, too")


def test_what_an_operator_changes_reaches_every_process_and_one_that_is_started_again(
    lasting: StartedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str) -> Any:
        assert inferway([*arguments, "--json", "--admin", f"http://{lasting.admin}"]) == 0
        return json.loads(capsys.readouterr().out)

    assert told("drain", "other")["processes"] == 2
    assert told("label", "set", MODEL, "steady", "1")["processes"] == 2
    rows = told("pools")["endpoints"]
    assert {(row["process"], row["state"]) for row in rows if row["endpoint"] == "other"} == {
        (0, "draining"),
        (1, "draining"),
    }
    victim = serving(lasting)[1]
    os.kill(victim, signal.SIGKILL)
    until(lambda: serving(lasting).get(1, victim) != victim, "it is started again")
    assert [(change["name"], change["processes"]) for change in told("overrides")["overrides"]] == [
        ("other", [0, 1]),
        (MODEL, [0, 1]),
    ]
    told("undrain", "other")
    assert len(told("overrides")["overrides"]) == 1
    assert {row["state"] for row in told("pools")["endpoints"]} == {"ready"}


def test_voiding_a_model_empties_the_memory_of_every_process(
    lasting: StartedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ask() -> None:
        load = Load(lasting, distinct_images(60))
        work = [asyncio.create_task(load.come_and_go()) for _ in range(4)]
        while load.answered < 60:  # noqa: ASYNC110 - the load tells nobody
            await asyncio.sleep(0.05)
        load.ends.set()
        await asyncio.gather(*work)

    asyncio.run(ask())
    assert lasting.metric("gateway_cache_memory_bytes") > 0
    assert inferway(["cache", "void", MODEL, "--admin", f"http://{lasting.admin}"]) == 0
    assert "answers dropped from memory" in capsys.readouterr().out
    assert lasting.metric("gateway_cache_memory_bytes") == 0
