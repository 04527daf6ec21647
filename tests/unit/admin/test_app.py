"""The admin port: changes reach every process or say which they did not, and not everybody may make them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from gateway.admin.app import admin_app
from gateway.admin.operations import Operations
from gateway.admin.processes import Answer
from gateway.settings import AdminWrites

JSON = {"content-type": "application/json"}


class FakeProcesses:
    """Processes that answer as they were told, by what is asked; and keep what they were asked."""

    def __init__(self, *answers: Mapping[str, Any], ready: bool = True) -> None:
        self.turn = asyncio.Lock()
        self.asked: list[Mapping[str, Any]] = []
        self._answers = answers
        self._ready = ready

    async def ask(self, question: Mapping[str, Any]) -> list[Answer]:
        self.asked.append(question)
        return [Answer(number, said) for number, said in enumerate(self._answers)]

    async def ask_first(self, question: Mapping[str, Any]) -> Answer:
        self.asked.append(question)
        return Answer(0, self._answers[0])

    async def metrics_page(self) -> bytes:
        return b"gateway_processes 2.0\n"

    async def is_ready(self) -> bool:
        return self._ready

    def states(self) -> list[dict[str, Any]]:
        return [{"process": 0}]


async def send(
    processes: FakeProcesses,
    method: str,
    path: str,
    *,
    writes: AdminWrites = "loopback",
    caller: str = "127.0.0.1",
    headers: Mapping[str, str] = JSON,
    body: bytes | AsyncIterator[bytes] = b"{}",
    host: str = "127.0.0.1:8082",
) -> httpx.Response:
    app = admin_app(Operations(processes), writes)
    transport = httpx.ASGITransport(app, client=(caller, 1))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        return await client.request(method, path, headers=dict(headers), content=body)


async def test_a_change_is_answered_when_every_process_has_made_it() -> None:
    processes = FakeProcesses({}, {})
    reply = await send(processes, "POST", "/endpoints/triton-1/drain")
    assert reply.json() == {"action": "drain", "name": "triton-1", "processes": 2}
    assert processes.asked == [{"ask": "change", "change": {"action": "drain", "name": "triton-1"}}]


async def test_an_endpoint_that_was_found_at_an_address_can_be_drained() -> None:
    processes = FakeProcesses({})
    reply = await send(processes, "POST", "/endpoints/tf%2F10.0.0.1%3A8500/drain")
    assert reply.status_code == 200
    change = {"action": "drain", "name": "tf/10.0.0.1:8500"}
    await send(processes, "POST", "/endpoints/tf%2F10.0.0.1%3A8500/undrain")
    assert [question["change"] for question in processes.asked] == [change, {**change, "action": "undrain"}]


async def test_a_change_that_one_process_did_not_make_says_which() -> None:
    processes = FakeProcesses({}, {"failed": "no answer in 5 s"})
    reply = await send(processes, "POST", "/endpoints/e/undrain")
    expected = "done by 1 of 2 processes; process 1: no answer in 5 s; ask again"
    assert (reply.status_code, reply.json()) == (503, {"error": expected})


async def test_what_every_process_refuses_in_the_same_words_is_said_once() -> None:
    refused = {"refused": [404, "there is no endpoint 'e'; known here: triton-1"]}
    reply = await send(FakeProcesses(refused, refused), "POST", "/endpoints/e/drain")
    assert (reply.status_code, reply.json()["error"]) == (404, refused["refused"][1])


@pytest.mark.parametrize(
    ("path", "body", "change"),
    [
        ("/models/m/canary", b'{"weight": 0.25}', {"action": "weight", "name": "m", "value": 0.25}),
        ("/models/m/canary", b'{"weight": 0}', {"action": "weight", "name": "m", "value": 0.0}),
        (
            "/models/m/labels/prod/canary",
            b'{"weight": 0.25}',
            {"action": "weight", "name": "m", "label": "prod", "value": 0.25},
        ),
        (
            "/models/m/labels/prod",
            b'{"version": "2"}',
            {"action": "label", "name": "m", "label": "prod", "value": "2"},
        ),
    ],
)
async def test_weights_and_labels_are_put(path: str, body: bytes, change: Mapping[str, Any]) -> None:
    processes = FakeProcesses({})
    assert (await send(processes, "PUT", path, body=body)).status_code == 200
    assert processes.asked == [{"ask": "change", "change": change}]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/models/m/canary", b'{"weight": 1.5}', "weight: Input should be less than or equal to 1"),
        ("/models/m/canary", b"{}", "weight: Field required"),
        ("/models/m/canary", b"{", "body: JSON decode error"),
        ("/models/m/labels/prod", b'{"version": "latest"}', "version: String should match"),
    ],
)
async def test_what_is_not_valid_is_told_in_one_line_of_json(path: str, body: bytes, said: str) -> None:
    reply = await send(FakeProcesses({}), "PUT", path, body=body)
    assert reply.status_code == 422
    assert said in reply.json()["error"]


async def test_memory_is_voided_before_and_after_redis_since_a_process_may_read_there_meanwhile() -> None:
    processes = FakeProcesses({"dropped": 3}, {"dropped": 1})
    reply = await send(processes, "POST", "/models/m/cache/void")
    assert reply.json() == {"model": "m", "dropped": {"memory": 8, "redis": 3}}
    assert [question["ask"] for question in processes.asked] == ["void_memory", "void_redis", "void_memory"]


async def test_overrides_are_shown_with_the_processes_that_have_them() -> None:
    drain, label = (
        {"action": "drain", "name": "e"},
        {"action": "label", "name": "m", "label": "l", "value": "1"},
    )
    processes = FakeProcesses({"overrides": [drain]}, {"overrides": [drain, label]})
    reply = await send(processes, "GET", "/overrides")
    assert reply.json() == {"overrides": [{**drain, "processes": [0, 1]}, {**label, "processes": [1]}]}


async def test_the_root_names_what_there_is_to_read() -> None:
    reply = await send(FakeProcesses(), "GET", "/")
    routes = ["/openapi.json", "/metrics", "/livez", "/readyz", "/", "/status", "/pools", "/overrides"]
    assert reply.json() == {"routes": routes}


async def test_status_is_told_while_no_process_serves() -> None:
    reply = await send(FakeProcesses(ready=False), "GET", "/status")
    assert (reply.status_code, reply.json()["ready"], reply.json()["rollouts"]) == (200, False, [])


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
async def test_ready_is_what_the_processes_say(ready: bool, status: int) -> None:
    assert (await send(FakeProcesses(ready=ready), "GET", "/readyz")).status_code == status
    assert (await send(FakeProcesses(ready=ready), "GET", "/livez")).status_code == 200


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, 200),
        ({"caller": "::1", "host": "localhost:8082"}, 200),
        ({"caller": "::ffff:127.0.0.1"}, 200),
        ({"caller": "10.0.0.7"}, 403),
        ({"host": "rebound.example:8082"}, 403),
        ({"headers": {}}, 415),
        ({"headers": {"content-type": "text/plain"}}, 415),
        ({"writes": "any", "caller": "10.0.0.7"}, 200),
        ({"writes": "any", "caller": "10.0.0.7", "headers": {}}, 415),
        ({"writes": "off"}, 403),
    ],
)
async def test_who_may_change_something(options: dict[str, Any], status: int) -> None:
    processes = FakeProcesses({})
    reply = await send(processes, "POST", "/reload", **options)
    assert reply.status_code == status
    assert bool(processes.asked) is (status == 200)
    assert status == 200 or reply.json()["error"]


@pytest.mark.parametrize("caller", ["127.0.0.1", "10.0.0.7"])
async def test_no_more_of_a_body_is_kept_than_a_change_can_have(caller: str) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 10_000
            yield b" " * 10_000

    processes = FakeProcesses({})
    reply = await send(processes, "PUT", "/models/m/canary", caller=caller, body=body())
    assert (reply.status_code, bool(reply.json()["error"])) == (413, True)
    assert read < 100_000
    assert not processes.asked


async def test_reads_are_open_to_whoever_reaches_the_port() -> None:
    reply = await send(
        FakeProcesses({"endpoints": [{"endpoint": "e"}]}), "GET", "/pools", caller="10.0.0.7", writes="off"
    )
    assert reply.json() == {"endpoints": [{"endpoint": "e", "process": 0}]}
