"""What every protocol needs: deadlines, readiness, and which parameters are whose."""

import asyncio
import dataclasses
import threading
from collections.abc import Mapping

import pytest

from gateway.errors import DeadlineExceeded, MalformedBody
from gateway.inference import InferResponse, Parameter
from gateway.protocols.edge import (
    DEFAULT_TIMEOUT_SECONDS,
    Edge,
    backend_parameters,
    in_thread,
    priority,
    reply_facts,
    timeout_seconds,
)
from tests.fakes import FakeClock, FakeInfer, a_contract, fake_edge, settle


def an_edge() -> Edge:
    return fake_edge(FakeInfer(), a_contract(timeout_seconds=4), clock=FakeClock(100.0))


@pytest.mark.parametrize(("asked_seconds", "deadline"), [(None, 104.0), (0.5, 100.5), (60.0, 160.0)])
def test_the_deadline_is_the_callers_own_else_the_models(
    asked_seconds: float | None, deadline: float
) -> None:
    assert an_edge().deadline("adder", asked_seconds) == deadline


def test_a_model_without_a_contract_has_the_default_timeout() -> None:
    assert an_edge().deadline("raw") == 100.0 + DEFAULT_TIMEOUT_SECONDS


async def test_work_in_threads_takes_turns_and_a_turn_ends_with_its_work_not_with_its_caller() -> None:
    turn = asyncio.Semaphore(1)
    may_end = threading.Event()
    edge = an_edge()

    def work() -> str:
        assert may_end.wait(5)
        return "done"

    for _ in range(2):
        with pytest.raises(DeadlineExceeded, match="the deadline passed before the payload was decoded"):
            await edge.by(edge.clock() + 0.01, in_thread(turn, work), "the payload was decoded")
    assert turn.locked()
    may_end.set()
    assert await in_thread(turn, work) == "done"
    assert not turn.locked()


async def test_work_that_fails_gives_its_turn_on() -> None:
    turn = asyncio.Lock()
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(turn, lambda: int("x"))
    await settle()
    assert not turn.locked()


@pytest.mark.parametrize("ready", [True, False])
def test_the_gateway_is_ready_when_every_models_default_version_is(ready: bool) -> None:
    asked: list[tuple[str, str]] = []

    def is_ready(model: str, version: str) -> bool:
        asked.append((model, version))
        return ready or version != "2"

    contracts = (a_contract(), a_contract(name="other", default_version="2"))
    assert fake_edge(FakeInfer(), *contracts, is_ready=is_ready).ready is ready
    assert asked == [("adder", "1"), ("other", "2")]


@pytest.mark.parametrize(
    ("parameters", "seconds"),
    [
        ({}, None),
        ({"timeout": 2_500_000}, 2.5),
        ({"timeout": 0.5}, 5e-7),
        ({"timeout": "2500000"}, 2.5),
        ({"timeout": ""}, None),
        ({"timeout": 0}, None),
        ({"timeout": -1}, None),
        ({"timeout": "inf"}, None),
        ({"timeout": "nan"}, None),
    ],
)
def test_the_timeout_parameter_is_in_microseconds_and_nothing_when_not_positive(
    parameters: Mapping[str, Parameter], seconds: float | None
) -> None:
    assert timeout_seconds(parameters) == seconds


def test_a_timeout_parameter_that_is_no_number_is_refused() -> None:
    with pytest.raises(MalformedBody, match="parameter 'timeout': expected microseconds, got 'soon'"):
        timeout_seconds({"timeout": "soon"})


@pytest.mark.parametrize(
    ("parameters", "header", "expected"),
    [
        ({}, "", 0),
        ({"priority": 0}, "", 0),
        ({"priority": 3}, "", 3),
        ({"priority": 3}, "7", 3),
        ({}, "7", 7),
        ({"priority": 2**64 - 1}, "", 2**64 - 1),
    ],
)
def test_a_priority_is_the_parameters_else_the_headers_else_the_default(
    parameters: Mapping[str, Parameter], header: str, expected: int
) -> None:
    assert priority(parameters, header) == expected


@pytest.mark.parametrize("header", ["high", "-1", "1.5", "\u0663", "9" * 21, " "])
def test_a_priority_that_is_no_non_negative_integer_is_refused(header: str) -> None:
    with pytest.raises(MalformedBody, match="expected a non-negative integer"):
        priority({}, header)


def test_a_negative_priority_parameter_is_refused() -> None:
    with pytest.raises(MalformedBody, match="got '-1'"):
        priority({"priority": -1})


def test_the_gateways_own_parameters_reach_no_backend() -> None:
    own = dict.fromkeys(["timeout", "priority", "variant", "binary_data_output", "binary_data_size"], 1)
    assert backend_parameters({**own, "gain": 2}) == {"gain": 2}


def test_a_reply_says_what_gave_it() -> None:
    response = InferResponse("adder", "2", (), variant="int8", backend="triton", cache="shared")
    assert reply_facts(response) == {
        "x-inferway-cache": "shared",
        "x-inferway-variant": "int8",
        "x-inferway-version": "2",
        "x-inferway-backend": "triton",
    }


def test_ready_begins_with_every_model_and_ends_with_the_last() -> None:
    down = {"adder"}
    catalog = fake_edge(FakeInfer(), a_contract(name="adder"), a_contract(name="other")).catalog
    edge = dataclasses.replace(an_edge(), catalog=catalog, is_ready=lambda model, _: model not in down)

    def is_ready() -> bool:
        return edge.ready

    assert not is_ready()
    down.clear()
    assert is_ready()
    down.add("adder")
    assert is_ready(), "one model's engines must not take the whole gateway out"
    down.add("other")
    assert not is_ready()
    down.clear()
    assert is_ready()
    edge.leaving.set()
    assert not is_ready()
