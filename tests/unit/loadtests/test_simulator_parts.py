"""The simulator's parts: time, subsets, and what a replica does with what it is sent."""

from collections import Counter
from random import Random

import pytest

from gateway.errors import EndpointBusy, EndpointFailed, EndpointFailure, EndpointUnreachable
from loadtests.simulator.events import Events
from loadtests.simulator.server_model import Server, ServerRules
from loadtests.simulator.subsetting import subset


class Told:
    """An attempt that keeps what it was told, and when."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.ends: list[tuple[float, type[EndpointFailure] | None]] = []

    def ended(self, failure: type[EndpointFailure] | None) -> None:
        self.ends.append((self._events.now, failure))


@pytest.fixture
def events() -> Events:
    return Events()


def a_server(events: Events, *, queue_limit: int = 1) -> Server:
    """One worker, and inferences that take 1 s almost exactly."""
    return Server(events, ServerRules(1.0, service_shape=1e12, queue_limit=queue_limit), Random(1))  # noqa: S311


def sent(server: Server, events: Events, count: int) -> list[Told]:
    attempts = [Told(events) for _ in range(count)]
    for attempt in attempts:
        server.accept(attempt)
    return attempts


def failures(attempts: list[Told]) -> list[type[EndpointFailure] | None]:
    """How each ended; every one has ended, and once."""
    assert [len(attempt.ends) for attempt in attempts] == [1] * len(attempts)
    return [attempt.ends[0][1] for attempt in attempts]


def test_events_happen_in_the_order_of_time_and_then_of_planning(events: Events) -> None:
    happened: list[str] = []
    for when, name in ((2.0, "c"), (1.0, "a"), (2.0, "d"), (1.0, "b")):
        events.plan(when, happened.append, name)
    assert events.run() == 4
    assert (happened, events.now) == (["a", "b", "c", "d"], 2.0)


def test_a_round_of_gateways_shares_the_endpoints_out_evenly() -> None:
    subsets = [subset(gateway, endpoints=100, size=20) for gateway in range(15)]
    assert Counter(number for chosen in subsets for number in chosen) == dict.fromkeys(range(100), 3)
    assert subsets[0] != subsets[5]
    assert subsets[3] == subset(3, endpoints=100, size=20)


def test_work_waits_in_order_and_what_finds_no_place_is_refused(events: Events) -> None:
    server = a_server(events)
    attempts = sent(server, events, 3)
    events.run()
    assert failures(attempts) == [None, None, EndpointBusy]
    assert [attempt.ends[0][0] for attempt in attempts[:2]] == pytest.approx([1.0, 2.0], rel=1e-3)
    assert (server.served, server.longest_queue) == (2, 2)


def test_going_down_loses_all_that_is_there_and_refuses_what_comes(events: Events) -> None:
    server = a_server(events)
    attempts = sent(server, events, 2)
    events.plan(0.5, server.go_down)
    events.plan(0.6, lambda: attempts.extend(sent(server, events, 1)))
    events.run()
    assert failures(attempts) == [EndpointFailed, EndpointFailed, EndpointUnreachable]
    server.come_up()
    after = sent(server, events, 1)
    events.run()
    assert failures(after) == [None]
    assert server.served == 1


def test_a_failing_replica_answers_at_once_with_an_error(events: Events) -> None:
    server = a_server(events)
    server.is_failing = True
    attempts = sent(server, events, 2)
    events.run()
    assert failures(attempts) == [EndpointFailed, EndpointFailed]
    assert events.now < 0.1


def test_a_slowed_replica_takes_so_many_times_as_long(events: Events) -> None:
    server = a_server(events)
    server.slowdown = 20.0
    sent(server, events, 1)
    events.run()
    assert events.now == pytest.approx(20.0, rel=1e-3)
