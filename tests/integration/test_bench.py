"""What the benchmark takes for an answer: a peer that answers wrongly, late or not at all has no figure."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtests.bench import http_client
from loadtests.bench.answers import WrongAnswer, check
from loadtests.bench.http_client import open_loop
from loadtests.bench.sources import JSON, OIP_JSON
from loadtests.bench.systems import System
from tests.load import distinct_images, reference

Answers = NDArray[np.float32]


@contextmanager
def a_peer(answer: Callable[[int], Answers | None]) -> Iterator[System]:
    """A server whose n-th request, from 0, is answered with these probabilities; None: with 500."""
    asked = iter(range(100_000))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            probabilities = answer(next(asked))
            body = b"no"
            if probabilities is not None:
                body = json.dumps({"outputs": [{"data": probabilities.tolist()}]}).encode()
            self.send_response(500 if probabilities is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError):  # whoever gave up does not want it
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield System("a peer", f"127.0.0.1:{server.server_address[1]}", {JSON: OIP_JSON}, {}, "", "")
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def right() -> Answers:
    """The model's answers to the images that `check` sends."""
    return reference(distinct_images(5, seed=1))


def test_a_peer_that_answers_as_the_model_does_passes(right: Answers) -> None:
    with a_peer(lambda number: right[number] + 5e-5) as peer:
        check(peer, 5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda right, number: right[number - 1], "from the model's answer"),  # another image's
        (lambda right, number: right[number] + 2e-4 * (number == 4), "image 4"),
        (lambda right, number: right[number][:9], r"\(9,\) in place of \(10,\)"),
        (lambda right, number: right[number] * np.nan, "is no answer"),  # NaN is no JSON
    ],
)
def test_a_peer_that_answers_something_else_ends_the_run(
    right: Answers, wrong: Callable[[Answers, int], Answers], message: str
) -> None:
    with a_peer(lambda number: wrong(right, number)) as peer, pytest.raises(WrongAnswer, match=message):
        check(peer, 5)


async def test_an_open_loop_counts_every_request_once(right: Answers) -> None:
    with a_peer(lambda number: None if number % 4 == 3 else right[0]) as peer:
        requests = OIP_JSON.requests(distinct_images(3))
        outcome = await open_loop(peer.address, requests, rate=400, seconds=0.2, seed=1)
    assert len(outcome.seconds) + outcome.failed == 80
    assert outcome.failed == 20


async def test_what_is_not_answered_in_an_open_loop_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "DRAIN_SECONDS", 0.1)
    held = threading.Event()

    def never(_: int) -> None:
        held.wait()

    with a_peer(never) as peer:
        outcome = await open_loop(
            peer.address, OIP_JSON.requests(distinct_images(3)), rate=100, seconds=0.1, seed=1
        )
        held.set()
    assert (outcome.seconds, outcome.failed) == ([], 10)
    assert outcome.milliseconds(99) == float("inf")


async def test_a_server_that_is_not_there_fails_every_request() -> None:
    with a_peer(lambda _: None) as peer:
        address = peer.address
    outcome = await open_loop(address, [b"GET / HTTP/1.1\r\n\r\n"], rate=100, seconds=0.1, seed=1)
    assert (outcome.seconds, outcome.failed) == ([], 10)
