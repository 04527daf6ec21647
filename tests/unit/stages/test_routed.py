"""Routed: each request to the pool that serves just its model, version and variant."""

import pytest

from gateway.errors import Unavailable
from gateway.inference import InferRequest, PoolKey
from gateway.stages.routed import Routed
from tests.fakes import FakeInfer, a_request

POOLS = (PoolKey("adder", "1", "fp32"), PoolKey("adder", "1", "int8"), PoolKey("adder", "2", "fp32"))


@pytest.mark.parametrize("key", POOLS)
async def test_a_request_goes_to_its_own_pool_and_no_other(key: PoolKey) -> None:
    pools = {pool: FakeInfer() for pool in POOLS}
    request = a_request(version=key.version, variant=key.variant)
    await Routed(pools)(request)
    assert {pool: infer.requests for pool, infer in pools.items()} == {
        pool: [request] if pool == key else [] for pool in POOLS
    }


@pytest.mark.parametrize("version", ["", "7"])
async def test_a_model_without_a_contract_has_one_pool_for_all_versions(version: str) -> None:
    pool = FakeInfer()
    await Routed({PoolKey("raw", "", ""): pool})(a_request(model="raw", version=version))
    assert len(pool.requests) == 1


@pytest.mark.parametrize(
    "request_",
    [
        a_request(model="other", version="1", variant="fp32"),
        a_request(version="3", variant="fp32"),
        a_request(version="2", variant="int8"),
    ],
)
async def test_what_no_pool_serves_is_unavailable_and_says_what_to_mend(request_: InferRequest) -> None:
    what = f"model '{request_.model}' version {request_.version} variant '{request_.variant}'"
    with pytest.raises(Unavailable, match=f"no pool serves {what}; see `pools` in inferway.yaml"):
        await Routed({key: FakeInfer() for key in POOLS})(request_)
