"""An endpoint: when it takes a request, and how loaded it looks."""

import pytest

from gateway.balancing.endpoint import Endpoint
from tests.fakes import FakeInfer


def an_endpoint(name: str = "a", *, latency: float = 0.0, in_flight: int = 0) -> Endpoint:
    endpoint = Endpoint(name, "fake", FakeInfer(), is_ready=True, in_flight=in_flight)
    if latency:
        endpoint.latency.observe(latency, 0.0)
    return endpoint


def test_an_endpoint_takes_nothing_until_it_has_said_that_it_is_ready() -> None:
    assert not Endpoint("a", "fake", FakeInfer()).is_available(0.0)


def test_one_that_goes_on_from_another_is_ready_and_as_fast_as_that_was() -> None:
    before, after = an_endpoint(latency=0.5), Endpoint("a", "fake", FakeInfer())
    after.go_on(before, 0.0)
    assert (after.is_available(0.0), after.latency.at(0.0)) == (True, 0.5)


def test_one_that_goes_on_from_another_that_failed_must_become_ready() -> None:
    before, after = an_endpoint(), Endpoint("a", "fake", FakeInfer())
    before.outlier.failed(0.0)
    after.go_on(before, 0.0)
    assert not after.is_ready


def test_a_draining_endpoint_takes_nothing() -> None:
    endpoint = an_endpoint()
    endpoint.is_draining = True
    assert not endpoint.is_available(0.0)


def test_an_ejected_endpoint_takes_nothing_until_its_ejection_ends() -> None:
    endpoint = an_endpoint()
    for _ in range(3):
        endpoint.outlier.failed(0.0)
    assert not endpoint.is_available(0.9)
    assert endpoint.is_available(1.0)


def test_on_probation_an_endpoint_takes_one_request_at_a_time() -> None:
    endpoint = an_endpoint()
    for _ in range(3):
        endpoint.outlier.failed(0.0)
    endpoint.in_flight = 1
    assert not endpoint.is_available(1.0)
    endpoint.outlier.succeeded()
    assert endpoint.is_available(1.0)


@pytest.mark.parametrize(
    ("busier", "idler"),
    [
        (an_endpoint(latency=0.1, in_flight=2), an_endpoint(latency=0.1, in_flight=1)),
        (an_endpoint(latency=0.2), an_endpoint(latency=0.1)),
        (an_endpoint(latency=0.1, in_flight=3), an_endpoint(latency=0.3)),
        (an_endpoint(latency=0.9), an_endpoint(latency=0.1, in_flight=1)),
        (an_endpoint(in_flight=1), an_endpoint(latency=2.5, in_flight=8)),
        (an_endpoint(in_flight=2), an_endpoint(in_flight=1)),
        (an_endpoint(latency=0.001), an_endpoint()),
    ],
    ids=[
        "in_flight",
        "latency",
        "both",
        "both, latency more",
        "unproven",
        "two unproven",
        "idle and unproven",
    ],
)
def test_load_grows_with_requests_in_flight_and_with_latency(busier: Endpoint, idler: Endpoint) -> None:
    assert busier.load(0.0) > idler.load(0.0)


def test_an_endpoint_that_was_slow_looks_better_with_time() -> None:
    once_slow, fast = an_endpoint(latency=2.5), an_endpoint(latency=0.002, in_flight=4)
    assert once_slow.load(0.0) > fast.load(0.0)
    fast.latency.observe(0.002, 60.0)
    assert once_slow.load(60.0) < fast.load(60.0)
