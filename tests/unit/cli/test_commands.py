"""`inferway`: tables for people, JSON for programs, and one line with the mend when something is wrong."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest

from gateway.cli.__main__ import main
from services.launch import free_port

ROW = {
    "model": "m",
    "version": "1",
    "variant": "fp32",
    "endpoint": "triton-1",
    "backend": "triton",
    "ejected_seconds": 0.0,
    "in_flight": 2,
    "latency_seconds": 0.0104,
    "load": 1.0,
    "shadow": False,
}
CANARY = {
    "model": "m",
    "label": None,
    "weight": 0.1,
    "rolled_back": None,
    "stable": {"version": "1", "variant": "fp32", "requests": 90, "errors": 0},
    "canary": {"version": "2", "variant": "fp32", "requests": 10, "errors": 1},
}
CANARIES = [CANARY, {**CANARY, "label": "prod", "weight": 0.5}]


class Admin(BaseHTTPRequestHandler):
    """An admin port that says what it was told to."""

    replies: ClassVar[dict[str, tuple[int, Any]]] = {}
    asked: ClassVar[list[tuple[str, str]]] = []

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        self.asked.append((f"{self.command} {self.path}", body))
        status, said = self.replies[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(said if isinstance(said, bytes) else json.dumps(said).encode())

    do_GET = do_POST = do_PUT = _answer  # noqa: N815 - names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Admin.replies, Admin.asked = {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Admin) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_pools_are_one_line_each_with_what_processes_see_differently(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**ROW, "state": "ready", "process": 0}, {**ROW, "state": "ejected", "process": 1}]
    Admin.replies["/pools"] = (200, {"endpoints": rows})
    assert main(["pools", "--admin", url]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "MODEL"
    assert line.split() == [
        "m",
        "1",
        "fp32",
        "triton-1",
        "triton",
        "clients",
        "ready",
        "1,",
        "ejected",
        "1",
        "4",
        "10.4",
    ]


def test_endpoints_that_shadows_ask_have_lines_of_their_own(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**ROW, "state": "ready", "shadow": shadow, "process": 0} for shadow in (False, True)]
    Admin.replies["/pools"] = (200, {"endpoints": rows})
    assert main(["pools", "--admin", url]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert "ASKED BY" in head
    assert [line.split()[4:8] for line in lines] == [
        ["triton", "clients", "ready", "2"],
        ["triton", "shadow", "ready", "2"],
    ]


def test_why_an_endpoint_cannot_serve_stands_once_below_the_pools(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = {"state": "not ready", "problem": "model.onnx: a\nmodel.onnx: b"}
    rows = [{**ROW, **problem, "process": process} for process in (0, 1)]
    Admin.replies["/pools"] = (200, {"endpoints": rows})
    assert main(["pools", "--admin", url]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["model.onnx: a", "model.onnx: b"]


def test_json_is_what_the_api_says(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"overrides": [{"action": "drain", "name": "e", "processes": [0]}]}
    Admin.replies["/overrides"] = (200, said)
    assert main(["overrides", "--json", "--admin", url]) == 0
    assert json.loads(capsys.readouterr().out) == said


def test_status_shows_processes_canaries_of_all_of_them_and_labels(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    process = {"process": 0, "pid": 7, "state": "serving", "restarts": 1, "up_seconds": 12.3}
    rollouts = [{"process": n, "canaries": CANARIES, "labels": {"m": {"prod": "1"}}} for n in (0, 1)]
    said = {"version": "1.0", "ready": True, "processes": [process], "rollouts": rollouts}
    Admin.replies["/status"] = (200, said)
    assert main(["status", "--admin", url]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["inferway", "1.0,", "ready"]
    assert ["0", "7", "serving", "1", "12"] in lines
    assert ["m", "-", "1/fp32", "2/fp32", "0.1", "20", "2", "-"] in lines
    assert ["m", "prod", "1/fp32", "2/fp32", "0.5", "20", "2", "-"] in lines
    assert ["m", "prod", "1"] in lines


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["drain", "a/b"], ("POST /endpoints/a%2Fb/drain", "{}")),
        (["undrain", "e"], ("POST /endpoints/e/undrain", "{}")),
        (["canary", "set", "m", "0.5"], ("PUT /models/m/canary", '{"weight": 0.5}')),
        (
            ["canary", "set", "m", "0.5", "--label", "prod"],
            ("PUT /models/m/labels/prod/canary", '{"weight": 0.5}'),
        ),
        (["label", "set", "m", "prod", "2"], ("PUT /models/m/labels/prod", '{"version": "2"}')),
        (["cache", "void", "m"], ("POST /models/m/cache/void", "{}")),
        (["reload"], ("POST /reload", "{}")),
    ],
)
def test_each_verb_asks_for_what_it_says(
    url: str, capsys: pytest.CaptureFixture[str], arguments: list[str], asked: tuple[str, str]
) -> None:
    Admin.replies[asked[0].split()[1]] = (200, {"processes": 2, "dropped": {"memory": 3, "redis": 4}})
    assert main([*arguments, "--admin", url]) == 0
    assert Admin.asked == [asked]
    assert capsys.readouterr().out.count("\n") == 1


def test_what_was_not_done_is_one_line_and_status_1(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    Admin.replies["/endpoints/e/drain"] = (404, {"error": "there is no endpoint 'e'; known here: f"})
    assert main(["drain", "e", "--admin", url]) == 1
    assert capsys.readouterr().err == "inferway: there is no endpoint 'e'; known here: f\n"


def test_nobody_there_is_one_line_with_the_mend_and_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--admin", f"http://127.0.0.1:{free_port()}"]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Connection refused; is the gateway running? --admin URL or INFERWAY_ADMIN names another" in said


@pytest.mark.parametrize("address", ["127.0.0.1:8082", "https://x:1", "http://", "http://127.0.0.1:x"])
def test_an_address_that_is_none_is_told(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--admin", address]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_another_server_on_that_port_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    Admin.replies["/status"] = (200, b"<html>")
    assert main(["status", "--admin", url]) == 3
    assert "is no admin port" in capsys.readouterr().err


def test_the_environment_names_the_admin_port(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Admin.replies["/overrides"] = (200, {"overrides": []})
    monkeypatch.setenv("INFERWAY_ADMIN", url)
    assert main(["overrides"]) == 0
    assert capsys.readouterr().out == "none: everything is as the configuration says\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["canary", "set", "--help"], ["drain"], ["frob"]])
def test_help_and_a_wrong_command_line_end_with_their_status(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == (0 if "--help" in arguments else 2)
    assert "usage: inferway" in "".join(capsys.readouterr())
