"""Shadows are built with pools of their own, also for what no pool serves."""

from prometheus_client import CollectorRegistry

from gateway.endpoints import new_clients
from gateway.inference import PoolKey
from gateway.metrics import Metrics
from gateway.rollouts.plans import shadow_plans
from gateway.settings import Settings
from gateway.shadows import asked, by_source, new_shadows
from tests.fakes import a_contract
from tests.serving import ROOT

ONE, TWO = PoolKey("adder", "1", "fp32"), PoolKey("adder", "2", "fp32")


def test_a_shadow_of_a_version_that_no_pool_serves_asks_its_endpoints_unseen_by_the_metrics() -> None:
    triton = {"backend": "triton", "address": "127.0.0.1:1"}
    shadow = {"model": "adder", "to": {"version": "2", "endpoints": ["b"]}}
    pools = [{"model": "adder", "versions": ["1"], "endpoints": ["a"]}]
    settings = Settings.model_validate(
        {"endpoints": {"a": triton, "b": triton}, "pools": pools, "shadows": [shadow]}
    )
    contracts, names = {"adder": a_contract()}, {ONE: ("a",)}
    plans = list(shadow_plans(settings, contracts, names))
    every = asked(names, plans)
    assert every == {ONE: ["a"], TWO: ["b"]}
    clients = new_clients(settings, contracts, every, ROOT, None, {})
    metrics = Metrics(CollectorRegistry())
    made = new_shadows(plans, settings, contracts, clients, metrics)
    ((built, pool),) = made
    assert [endpoint.name for endpoint in pool.endpoints] == ["b"]
    assert by_source(made) == {ONE: [built]}
    pool.publish()
    assert not next(iter(metrics.available.collect())).samples
