"""Authorized: the key of the request's task decides, before anything else looks at the request."""

import contextvars

import pytest
from prometheus_client import CollectorRegistry

from gateway.access import Access
from gateway.errors import ModelForbidden
from gateway.keys.key import CALLER, Key
from gateway.keys.keyring import Keyring
from gateway.metrics import Metrics
from gateway.quotas.quotas import Quotas
from gateway.stages.authorized import Authorized
from tests.fakes import FakeInfer, a_request

KEY = Key("0123456789ab", "team", bytes(32), frozenset({"adder"}))


async def test_a_key_for_other_models_reaches_nothing_and_is_counted() -> None:
    metrics, infer = Metrics(CollectorRegistry()), FakeInfer()
    stage = Authorized(infer, access=Access(Keyring(), Quotas(), metrics))
    CALLER.set(Key(KEY.id, "other", bytes(32), frozenset({"other"})))
    with pytest.raises(ModelForbidden):
        await stage(a_request())
    assert infer.requests == []
    value = metrics.registry.get_sample_value
    assert value("gateway_refused_requests_total", {"reason": "model"}) == 1
    assert value("gateway_key_requests_total", {"key": "other", "result": "model"}) == 1


@pytest.mark.parametrize(
    "key", [None, Key(KEY.id, "all", bytes(32)), KEY], ids=["none", "every_model", "this"]
)
async def test_any_other_request_passes(key: Key | None) -> None:
    infer = FakeInfer()
    stage = Authorized(infer, access=Access(Keyring(), Quotas(), Metrics(CollectorRegistry())))
    assert contextvars.copy_context().get(CALLER) is None
    CALLER.set(key)
    await stage(a_request())
    assert len(infer.requests) == 1
