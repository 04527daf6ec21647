import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from models.evaluation.engines import compared
from models.evaluation.rest import HEADER_LENGTH, Rest
from models.evaluation.subject import EvaluationError, Subject

CONTRACT = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [2]}],
}
MODEL = Subject("m", Path(), "3", CONTRACT, {})
BATCH = np.array([[1, 2], [3, 4]], np.float32)


class Gateway(BaseHTTPRequestHandler):
    """Answers with its input, as the int8 variant of Triton; refuses the model `none`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = int(self.headers[HEADER_LENGTH])
        asked = json.loads(body[:length])
        self.server.seen.append((self.path, asked))  # type: ignore[attr-defined]
        if "none" in self.path:
            self._send(404, b'{"error": "there is no none"}', {})
            return
        header = json.dumps({"outputs": [{"name": "y", "shape": asked["inputs"][0]["shape"]}]}).encode()
        told = {"x-inferway-variant": "int8", "x-inferway-backend": "triton", HEADER_LENGTH: str(len(header))}
        self._send(200, header + body[length:], told)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[Any]]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        seen: list[Any] = []
        server.seen = seen  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", seen
        server.shutdown()


def test_tensors_travel_as_bytes_both_ways(gateway: tuple[str, list[Any]]) -> None:
    address, seen = gateway
    with Rest(address, MODEL, "int8", "triton") as ask:
        assert ask({"x": BATCH}).tolist() == BATCH.tolist()
    ((path, asked),) = seen
    assert path == "/v2/models/m/versions/3/infer"
    assert asked["parameters"]["variant"] == "int8"
    assert asked["inputs"][0]["parameters"] == {"binary_data_size": BATCH.nbytes}


@pytest.mark.parametrize(("variant", "engine"), [("fp32", "triton"), ("int8", "torchserve")])
def test_another_variant_or_engine_must_not_answer(
    gateway: tuple[str, list[Any]], variant: str, engine: str
) -> None:
    with (
        Rest(gateway[0], MODEL, variant, engine) as ask,
        pytest.raises(EvaluationError, match=f"int8 of triton answered in place of {variant} of {engine}"),
    ):
        ask({"x": BATCH})


def test_a_refusal_is_told_in_the_gateway_s_words(gateway: tuple[str, list[Any]]) -> None:
    with (
        Rest(gateway[0], Subject("none", Path(), "1", CONTRACT, {}), "int8", "triton") as ask,
        pytest.raises(EvaluationError, match=r"404: .*there is no none"),
    ):
        ask({"x": BATCH})


def test_a_classifier_s_answers_are_held_against_labels_and_against_its_own() -> None:
    own = np.array([[0.9, 0.1], [0.4, 0.6], [0.45, 0.55], [0.2, 0.8]], np.float32)
    answered = own.copy()
    answered[2] = [0.55, 0.45]
    found = compared(answered, own, np.array([0, 1, 0, 0]))
    assert found == {"largest_difference": pytest.approx(0.1), "agreement": 0.75, "accuracy": 0.75}


def test_no_accuracy_is_told_where_no_right_answer_is_known() -> None:
    own = np.array([[0.9, 0.1]], np.float32)
    assert compared(own, own, np.array([-1])) == {"largest_difference": 0, "agreement": 1}


def test_a_regression_s_score_is_r2() -> None:
    right = np.array([1, 2, 3, 4], np.float32)
    answered = np.array([[1], [2], [3], [5]], np.float32)
    found = compared(answered, answered, right)
    assert found == {"largest_difference": 0, "r2": pytest.approx(1 - 1 / 5)}
