"""Endpoints in every state that decides who may take a request."""

from gateway.balancing.endpoint import Endpoint
from tests.fakes import FakeInfer

NOW = 1000.0
STATES = ("well", "failed at", "not ready", "draining", "ejected", "on probation", "on trial")


def an_endpoint(name: str, state: str) -> Endpoint:
    """One in this state at `NOW`."""
    endpoint = Endpoint(name, "fake", FakeInfer(), is_ready=state != "not ready")
    endpoint.is_draining = state == "draining"
    if state in {"ejected", "on probation", "on trial"}:
        for _ in range(3):
            endpoint.outlier.failed(NOW if state == "ejected" else NOW - 10.0)
    endpoint.in_flight = int(state == "on trial")
    return endpoint


def a_pool(states: list[str]) -> tuple[list[Endpoint], frozenset[str]]:
    """One endpoint for each state, and the names of those where the request has failed."""
    endpoints = [an_endpoint(f"{place} {state}", state) for place, state in enumerate(states)]
    return endpoints, frozenset(e.name for e in endpoints if e.name.endswith("failed at"))
