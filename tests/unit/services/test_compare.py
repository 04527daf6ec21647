import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from services.compare import distance, main


@contextmanager
def _server(answers: Mapping[bytes, Any], *, status: int = 200, backend: str = "") -> Iterator[str]:
    """A server that answers each body with its JSON, or with its bytes; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["content-length"]))
            answer = answers[asked]
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if backend:
                self.send_header("x-inferway-backend", backend)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing: the test's output is the tool's."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/predictions/digits"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    return [str(tmp_path / name) for name in ("a", "b")]


def test_equal_answers_are_counted_by_who_gave_them(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    old = {b"a": {"7": 0.5}, b"b": {"1": 1}}
    new = {b"a": {"7": 0.50001}, b"b": {"1": 1.0}}
    with _server(old) as first, _server(new, backend="triton") as second:
        assert main([first, second, *files]) == 0
    assert capsys.readouterr().out == (
        "triton: 2 equal, largest difference 1.0e-05\n2 of 2 answers are equal\n"
    )


def test_another_number_is_shown_and_fails(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with _server({b"a": [0.5], b"b": [1]}) as first, _server({b"a": [0.6], b"b": [1]}) as second:
        assert main([first, second, *files]) == 1
        assert main([first, second, *files, "--tolerance", "0.2"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"{files[0]}: 200 [0.5] became 200 [0.6]"
    assert shown[2] == "1 of 2 answers are equal"


def test_answers_that_are_no_text_differ_by_one_byte(files: list[str]) -> None:
    picture = {b"a": b"\x89PNG\xff", b"b": b"\x89PNG\xff"}
    other = {b"a": b"\x89PNG\xff", b"b": b"\x89PNG\xfe"}
    with _server(picture) as first, _server(other) as second:
        assert main([first, first, *files]) == 0
        assert main([first, second, *files]) == 1


def test_two_errors_are_not_equal_answers(files: list[str]) -> None:
    broken = {b"a": "broken", b"b": "broken"}
    with _server(broken, status=503) as first, _server(broken, status=503) as second:
        assert main([first, second, *files]) == 1


def test_a_server_that_is_not_there_fails(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with _server({b"a": 1, b"b": 1}) as first:
        pass
    assert main([first, first, *files]) == 1
    assert "became 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "apart"),
    [
        ({"7": 0.5, "1": 0.25}, {"1": 0.5, "7": 0.5}, 0.25),
        ({"7": 0.5}, {"1": 0.5}, math.inf),
        ([1, 2], [1], math.inf),
        ([], [], 0.0),
        ("seven", "seven", 0.0),
        ("seven", "one", math.inf),
        (1, True, math.inf),
        (2**53, 2**53 + 1, 1),
        (math.nan, math.nan, 0.0),
        (math.nan, 0.5, math.inf),
        (None, None, 0.0),
    ],
)
def test_the_distance_of_two_answers(old: Any, new: Any, apart: float) -> None:
    assert distance(old, new) == apart
