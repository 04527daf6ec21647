"""Membership: endpoints come warmed up, go when they have answered, and stay when nothing is found."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from gateway.balancing.address_sources import LookupFailed
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.membership import DRAIN_SECONDS
from tests.fakes import settle
from tests.unit.balancing.membership_rig import FP32, INT8, REQUEST, Client, Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.membership.stop()
    await made.health.stop()


async def test_each_address_is_an_endpoint_of_every_pool_over_one_client(rig: Rig) -> None:
    await rig.start("b:1", "a:1")
    assert rig.names(FP32) == rig.names(INT8) == ["triton/a:1", "triton/b:1"]
    assert [(name, address) for name, address, _ in rig.clients] == [
        ("triton/a:1", "a:1"),
        ("triton/b:1", "b:1"),
    ]
    for pool in (*rig.pools.values(), rig.shadows_pool):
        assert [endpoint.infer for endpoint in pool.endpoints] == [c for _, _, c in rig.clients]


async def test_what_is_new_takes_no_request_before_it_is_ready(rig: Rig) -> None:
    await rig.start("a:1")
    rig.are_ready = False
    await rig.look(None, "a:1", "b:1")
    assert {(await rig.pools[FP32](REQUEST)).endpoint for _ in range(50)} == {"triton/a:1"}
    rig.client("b:1").says_ready = True
    await settle()
    assert "triton/b:1" in {(await rig.pools[FP32](REQUEST)).endpoint for _ in range(50)}


async def test_what_goes_takes_no_request_answers_those_in_flight_and_is_closed(rig: Rig) -> None:
    await rig.start("a:1", "b:1")
    going = rig.client("a:1")
    going.is_open.clear()
    in_flight = [asyncio.create_task(rig.pools[FP32](REQUEST)) for _ in range(20)]
    await settle()
    held = [task for task in in_flight if not task.done()]
    assert held
    await rig.look(None, "b:1")
    assert rig.names(FP32) == rig.names(INT8) == ["triton/b:1"]
    before = len(going.requests)
    assert {(await rig.pools[FP32](REQUEST)).endpoint for _ in range(20)} == {"triton/b:1"}
    await rig.sleeps.end(DRAIN_SECONDS)
    assert (len(going.requests), going.is_closed, going.cancelled) == (before, False, 0)
    going.is_open.set()
    assert {(await task).endpoint for task in held} == {"triton/a:1"}
    await rig.sleeps.end(DRAIN_SECONDS)
    assert going.is_closed
    assert not rig.client("b:1").is_closed


async def test_what_goes_is_not_closed_while_a_shadow_waits_for_its_answer(rig: Rig) -> None:
    await rig.start("a:1", "b:1")
    going = rig.client("a:1")
    going.is_open.clear()
    in_flight = [asyncio.create_task(rig.shadows_pool(REQUEST)) for _ in range(20)]
    await settle()
    await rig.look(None, "b:1")
    await rig.sleeps.end(DRAIN_SECONDS)
    assert not going.is_closed
    going.is_open.set()
    assert {(await task).endpoint for task in in_flight} == {"triton/a:1", "triton/b:1"}
    await rig.sleeps.end(DRAIN_SECONDS)
    assert going.is_closed


async def test_what_goes_is_asked_no_more_and_its_series_go(rig: Rig) -> None:
    await rig.start("a:1", "b:1")
    assert rig.series() == {"triton/a:1", "triton/b:1"}
    gone = rig.pools[INT8].endpoints[0]
    await rig.look(None, "b:1")
    assert rig.series() == {"triton/b:1"}
    assert gone not in rig.health._tasks


@pytest.mark.parametrize(
    ("found", "result"), [(LookupFailed("triton: no such name"), "failed"), (None, "empty")]
)
async def test_a_look_up_that_fails_or_finds_nothing_changes_nothing(
    rig: Rig, found: Exception | None, result: str
) -> None:
    await rig.start("a:1")
    with capture_logs() as logs:
        await rig.look(found)
        await rig.look(found)
        assert rig.names() == ["triton/a:1"]
        await rig.look(None, "a:1")
    events = [line for line in logs if line["event"].startswith("discovery_")]
    why = str(found) if found else "no address was found"
    assert [line["event"] for line in events] == ["discovery_failed", "discovery_recovered"]  # each said once
    assert (events[0]["error"], events[0]["endpoints_kept"]) == (why, 1)
    assert (rig.lookups(result), rig.lookups("ok")) == (2, 2)
    assert [address for _, address, _ in rig.clients] == ["a:1"]


async def test_another_fault_is_said_too(rig: Rig) -> None:
    with capture_logs() as logs:
        await rig.start()
        await rig.look(LookupFailed("triton: no such name"))
        await rig.look(LookupFailed("triton: no name server answers"))
    said = [line["error"] for line in logs if line["event"] == "discovery_failed"]
    assert said == ["no address was found", "triton: no such name", "triton: no name server answers"]


async def test_looking_goes_on_after_an_error_that_nobody_foresaw(rig: Rig) -> None:
    await rig.start("a:1")
    with capture_logs() as logs:
        await rig.look(ZeroDivisionError())
    assert [line["event"] for line in logs if "discovery" in line["event"]] == ["discovery_broke"]
    await rig.look(None, "a:1", "b:1")
    assert rig.names() == ["triton/a:1", "triton/b:1"]


async def test_what_comes_back_while_it_drains_is_a_new_endpoint(rig: Rig) -> None:
    await rig.start("a:1", "b:1")
    first = rig.client("a:1")
    first.is_open.clear()
    in_flight = [asyncio.create_task(rig.pools[FP32](REQUEST)) for _ in range(20)]
    await settle()
    await rig.look(None, "b:1")
    await rig.look(None, "a:1", "b:1")
    assert rig.client("a:1") is not first
    assert rig.names() == ["triton/b:1", "triton/a:1"]
    first.is_open.set()
    await asyncio.gather(*in_flight)
    await rig.sleeps.end(DRAIN_SECONDS)
    assert (first.is_closed, rig.client("a:1").is_closed) == (True, False)
    assert rig.series() == {"triton/a:1", "triton/b:1"}


async def test_what_was_drained_and_comes_back_is_draining_in_every_pool_from_the_first_moment(
    rig: Rig,
) -> None:
    await rig.start("a:1", "b:1")
    rig.drained.add("triton/a:1")
    await rig.look(None, "b:1")
    await rig.look(None, "a:1", "b:1")
    for pool in rig.pools.values():
        assert {e.name: e.is_draining for e in pool.endpoints} == {"triton/a:1": True, "triton/b:1": False}
    assert {(await rig.pools[FP32](REQUEST)).endpoint for _ in range(50)} == {"triton/b:1"}


async def test_a_slow_first_look_up_does_not_keep_the_gateway_from_starting(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.balancing.membership.FIRST_SECONDS", 0.001)
    rig.answers.clear()
    await rig.start("a:1")
    assert rig.names() == []
    rig.answers.set()
    await settle()
    assert rig.names() == ["triton/a:1"]


async def test_stop_closes_every_client_those_that_drain_too_and_leaves_the_series(rig: Rig) -> None:
    await rig.start("a:1", "b:1")
    rig.client("a:1").is_open.clear()
    in_flight = [asyncio.create_task(rig.pools[FP32](REQUEST)) for _ in range(20)]
    await settle()
    await rig.look(None, "b:1")
    await rig.membership.stop()
    assert all(client.is_closed for _, _, client in rig.clients)
    assert rig.series() == {"triton/b:1"}
    rig.client("a:1").is_open.set()
    await asyncio.gather(*in_flight)


class Mending(Client):
    """A client of a server whose models can be healed."""

    async def heal(self, _model: str, _variant: str, /) -> bool | None:
        return True


async def test_heals_are_shown_as_0_before_there_is_one_where_there_can_be_any(rig: Rig) -> None:
    await rig.start("ten:1")
    assert rig.heals() == set()
    rig.pools[FP32].add(Endpoint("mending", "fake", Mending(says_ready=True)))
    assert rig.heals() == {("mending", "healed", 0.0), ("mending", "failed", 0.0)}
    rig.pools[FP32].remove("mending")
    assert rig.heals() == set()
