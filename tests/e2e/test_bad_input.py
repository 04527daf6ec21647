"""Bad input over every protocol: refused in its own words, before any backend, and at nobody else's cost."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest

from tests.e2e.wrong_requests import LIMIT_BYTES, WRONG, Grpc, Http, bombs
from tests.load import distinct_images, drive
from tests.serving import EMBEDDED, StartedGateway, running_gateway

ATTEMPTS = "gateway_attempt_duration_seconds_count"
HELD_BYTES = 4 * LIMIT_BYTES
"""What the gateway may hold beside what it held before, while it refuses one oversized body after another. It
takes `max_request_bytes` of one in; expanded, that much lies in zlib's blocks and once more joined; and what
the one before held may not be back with the system yet."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedGateway]:
    """One of this module's own, for its memory is watched."""
    settings = {"endpoints": {"embedded": EMBEDDED}}
    with running_gateway(tmp_path_factory.mktemp("gateway"), settings) as started:
        yield started


@contextmanager
def watched_memory(pid: int) -> Iterator[list[int]]:
    """The largest resident size in bytes until the block ends, beside the one before it."""
    process = psutil.Process(pid)
    before = process.memory_info().rss
    largest = [0]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.005):
            largest[0] = max(largest[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield largest
    finally:
        is_over.set()
        watcher.join()


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_request_is_refused_with_what_was_expected_and_costs_no_attempt(
    gateway: StartedGateway, wrong: Http | Grpc
) -> None:
    before = gateway.metric(ATTEMPTS)
    status, text = wrong.refusal(gateway)
    assert status == wrong.status, text
    for expected in wrong.texts:
        assert expected in text
    assert gateway.metric(ATTEMPTS) == before


def test_bodies_over_the_limit_are_refused_and_do_not_fill_the_memory(gateway: StartedGateway) -> None:
    before = gateway.metric(ATTEMPTS)
    too_large = bombs()
    with watched_memory(gateway.running.pid) as largest_bytes:
        for name, wrong in too_large.items():
            status, text = wrong.refusal(gateway)
            assert status == wrong.status, (name, text)
            assert all(expected in text for expected in wrong.texts), (name, text)
    assert largest_bytes[0] < HELD_BYTES
    assert gateway.metric(ATTEMPTS) == before


def test_refused_messages_are_not_kept(gateway: StartedGateway) -> None:
    message = bytes(32 * 2**20)  # no protobuf: refused by the gateway's own code, not by gRPC
    wrong = Grpc("/inference.GRPCInferenceService/ModelInfer", message, "INVALID_ARGUMENT", ())
    with watched_memory(gateway.running.pid) as largest_bytes:
        for _ in range(16):
            assert wrong.refusal(gateway)[0] == "INVALID_ARGUMENT"
    assert largest_bytes[0] < HELD_BYTES


def test_neighbours_of_bad_requests_get_right_answers_in_time(gateway: StartedGateway) -> None:
    process = psutil.Process(gateway.running.pid)
    everything = [*WRONG.values(), *(wrong for wrong in bombs().values() if isinstance(wrong, Http))]
    images = distinct_images(1500, seed=31)
    with ThreadPoolExecutor(3) as pool:
        load = pool.submit(lambda: asyncio.run(drive(gateway.http, images, connections=8)))
        time.sleep(0.1)
        refusals = list(pool.map(lambda wrong: wrong.refusal(gateway)[0], everything))
        outcome = load.result()
    assert refusals == [wrong.status for wrong in everything]
    assert outcome.failed == {}
    assert max(outcome.seconds) < 2.0
    assert process.is_running()
    assert gateway.running.process.poll() is None
    assert '"level": "error"' not in gateway.running.launch.log.read_text()
