"""The stack of docker-compose.yml loses parts under load, and no request fails. Not all of them come back."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.docker.stack import Stack, inside
from tests.docker.under_load import under_load
from tests.serving import MODEL, ROOT

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]

CONFIGURATION = ROOT / "deploy" / "compose" / "inferway.yaml"
SOON = 60.0
OUTAGE_SECONDS, SLOWEST_SECONDS = 3.0, 5.0
"""To look up a name that nobody has any more takes 10."""
END_SECONDS = 5.0
"""What a gateway may take after its drain, on a busy machine."""


def addresses(container: Any) -> set[str]:
    """Its IP addresses, one in each network; a gateway has found it by one of them."""
    container.reload()
    return {network["IPAddress"] for network in container.attrs["NetworkSettings"]["Networks"].values()}


def is_used(gateway: Any, engines: set[str]) -> bool:
    """Whether a gateway sends requests to the Triton with one of these addresses."""
    page = inside(gateway, "http://127.0.0.1:8082/metrics").splitlines()
    start = "gateway_endpoint_available_ratio{"
    labels = [f'endpoint="triton/{address}:8001",model="{MODEL}"' for address in engines]
    mine = [line for line in page if line.startswith(start) and any(label in line for label in labels)]
    return bool(mine) and all(line.endswith(" 1.0") for line in mine)


def until(happens: Callable[[], bool]) -> None:
    give_up = time.monotonic() + SOON
    while not happens():
        assert time.monotonic() < give_up
        time.sleep(0.2)


def test_a_replica_of_an_engine_that_is_killed_costs_no_request_and_is_used_when_it_is_back(
    stack: Stack,
) -> None:
    (victim,) = stack.containers("triton-2")
    gateway = stack.containers("gateway")[0]
    before = addresses(victim)
    assert is_used(gateway, before)
    passed = under_load(stack, victim.kill, seed=2)
    assert passed.failed == []
    assert stack.containers("triton-2") == []
    until(lambda: not is_used(gateway, before))
    victim.start()
    until(lambda: is_used(gateway, addresses(victim)))


def test_a_replica_that_is_added_is_used_and_one_that_is_taken_away_costs_no_request(stack: Stack) -> None:
    gateway = stack.containers("gateway")[0]
    options = ("--detach", "--no-build", "--no-deps", "--no-recreate")

    def add_and_take_away() -> None:
        old = stack.containers("triton-1")
        stack.compose("up", *options, "--scale=triton-1=2", "triton-1")
        (new,) = set(stack.containers("triton-1")) - set(old)
        found = addresses(new)
        until(lambda: is_used(gateway, found))
        stack.compose("up", *options, "--scale=triton-1=1", "triton-1")
        until(lambda: not is_used(gateway, found))

    passed = under_load(stack, add_and_take_away, seed=6)
    assert passed.failed == []


def test_a_redis_that_is_killed_costs_no_request_and_hardly_any_time(stack: Stack) -> None:
    (victim,) = stack.containers("redis")

    def lose() -> None:
        victim.kill()
        time.sleep(OUTAGE_SECONDS)

    passed = under_load(stack, lose, seed=3)
    victim.start()
    assert passed.failed == []
    assert passed.slowest_seconds < SLOWEST_SECONDS


def test_gateways_are_replaced_without_a_failed_request(stack: Stack) -> None:
    old = stack.containers("gateway")

    def replace() -> None:
        options = ("--detach", "--no-build", "--wait", "--no-deps", "--no-recreate", "--scale=gateway=4")
        stack.compose("up", *options, "gateway")
        for gateway in old:
            gateway.stop()
            gateway.remove()

    passed = under_load(stack, replace, seed=5)
    assert passed.failed == []
    assert len(stack.containers("gateway")) == 2
    assert not set(stack.containers("gateway")) & set(old)


def test_a_gateway_that_is_told_to_stop_costs_no_request_and_ends_soon_by_itself(stack: Stack) -> None:
    victim, other = stack.containers("gateway")
    drain = yaml.safe_load(CONFIGURATION.read_text())["server"]["drain_delay_seconds"]
    passed = under_load(stack, lambda: victim.stop(timeout=30), seed=4)
    assert passed.failed == []
    victim.reload()
    assert victim.status == "exited"
    assert victim.attrs["State"]["ExitCode"] == 0
    assert drain <= passed.seconds < drain + END_SECONDS
    assert stack.containers("gateway") == [other]
