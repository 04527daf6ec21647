"""What may take over from what, and what must wait for a restart."""

from collections.abc import Mapping
from random import Random
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from gateway.balancing.balancer import Balancer
from gateway.balancing.endpoint import Endpoint
from gateway.catalog import Catalog
from gateway.contract import Contract
from gateway.inference import PoolKey
from gateway.metrics import Metrics
from gateway.reload_rules import LASTING, is_as_ready, required_pools, restart_keys
from gateway.serving import Serving
from gateway.settings import Settings
from gateway.stage_chain import Learned
from tests.fakes import FakeInfer, a_contract

ONE, TWO = PoolKey("adder", "1", "fp32"), PoolKey("adder", "2", "fp32")


def pool(key: PoolKey, **ready: bool) -> Balancer:
    endpoints = [Endpoint(name, "fake", FakeInfer(), is_ready=is_ready) for name, is_ready in ready.items()]
    metrics = Metrics(CollectorRegistry())
    return Balancer(endpoints, pool=key, attempt_timeout_seconds=1.0, metrics=metrics, rng=Random(1))  # noqa: S311


def serving(contract: Contract, pools: Mapping[PoolKey, Balancer]) -> Serving:
    anything = cast("Any", None)
    catalog = Catalog({contract.name: contract})
    return Serving(
        catalog,
        pools,
        FakeInfer(),
        anything,
        Learned(),
        anything,
        set(),
        {},
        anything,
        [],
        anything,
        [],
        {},
        anything,
    )


def settings(**changes: Any) -> Settings:
    return Settings.model_validate(changes)


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"server": {"http_port": 1}}, [("server", "http_port")]),
        (
            {"server": {"tls": {"certificate": "c", "key": "k"}}},
            [("server", "tls", "certificate"), ("server", "tls", "key")],
        ),
        (
            {"cache": {"memory_bytes": 0}, "log": {"level": "debug"}},
            [("cache", "memory_bytes"), ("log", "level")],
        ),
        ({"tracing": {"sample_ratio": 1}}, [("tracing", "sample_ratio")]),
        ({"keys": {"file": "keys.yaml"}}, [("keys", "file")]),
        ({"quotas": {"lease_seconds": 9}}, [("quotas", "lease_seconds")]),
        (
            {
                "balancing": {"consecutive_failures": 9},
                "retry": {"max_attempts": 1},
                "reload": {"watch": False},
            },
            [],
        ),
    ],
)
def test_what_a_process_keeps_is_told_by_its_keys_and_nothing_else_is(
    changes: dict[str, Any], keys: list[tuple[str, ...]]
) -> None:
    assert restart_keys(settings(), settings(**changes)) == keys


def test_the_sections_that_a_process_keeps_are_sections() -> None:
    assert set(LASTING) <= set(Settings.model_fields)


def test_a_version_that_becomes_the_default_must_be_ready_where_the_model_is_answered() -> None:
    old = serving(a_contract(), {ONE: pool(ONE, a=True)})
    new = serving(
        a_contract(default_version="2", labels={}), {ONE: pool(ONE, a=True), TWO: pool(TWO, a=False)}
    )
    assert required_pools(old, new) == {ONE, TWO}


def test_a_version_that_a_label_moves_to_must_be_ready() -> None:
    pools = {ONE: pool(ONE, a=True), TWO: pool(TWO, a=False)}
    new = serving(a_contract(labels={"stable": "2"}), pools)
    assert required_pools(serving(a_contract(), {ONE: pools[ONE]}), new) == {ONE, TWO}


def test_a_version_that_a_rollouts_label_moves_to_must_be_ready() -> None:
    pools = {ONE: pool(ONE, a=True), TWO: pool(TWO, a=False)}
    new = serving(a_contract(labels={"stable": "1"}), pools)
    new.catalog.move_label("adder", "stable", "2")
    assert required_pools(serving(a_contract(), {ONE: pools[ONE]}), new) == {ONE, TWO}


def test_another_version_is_not_waited_for() -> None:
    pools = {ONE: pool(ONE, a=True), TWO: pool(TWO, a=False)}
    assert required_pools(serving(a_contract(), pools), serving(a_contract(), pools)) == {ONE}


def test_a_model_that_nobody_answers_is_not_waited_for() -> None:
    pools = {ONE: pool(ONE, a=False), TWO: pool(TWO, a=False)}
    assert required_pools(serving(a_contract(), pools), serving(a_contract(), pools)) == set()


def test_a_pool_that_is_gone_is_not_waited_for() -> None:
    old = serving(a_contract(), {ONE: pool(ONE, a=True), TWO: pool(TWO, a=True)})
    assert required_pools(old, serving(a_contract(), {ONE: pool(ONE, a=False)})) == {ONE}


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        ({"a": True, "b": True}, {"a": True, "b": True}, True),
        ({"a": True, "b": False}, {"a": True, "b": True}, False),
        ({"a": True, "b": False}, {"a": True, "b": False}, True),
        ({"a": True}, {"a": True, "b": True}, True),
        ({"a": True, "c": False}, {"a": True}, True),
        ({"a": False}, {"a": False}, False),
        ({"a": True}, None, True),
    ],
)
def test_a_pool_is_as_ready_as_it_was_with_every_endpoint_that_answered_and_stays(
    new: dict[str, bool], old: dict[str, bool] | None, expected: bool
) -> None:
    assert is_as_ready(pool(ONE, **new), None if old is None else pool(ONE, **old)) is expected
