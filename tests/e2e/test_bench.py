"""The benchmark against real servers: right answers are figures, wrong or failed ones are none."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from loadtests.bench.answers import check
from loadtests.bench.closed_loop import LoadFailed, http_loop
from loadtests.bench.comparison import compare
from loadtests.bench.grpc_loop import grpc_loop
from loadtests.bench.measure import Options, measure
from loadtests.bench.sources import BINARY, GRPC, JSON, grpc_message
from loadtests.bench.systems import System, running_inferway, triton_system
from tests.load import distinct_images
from tests.serving import Engine

pytestmark = pytest.mark.engine
TINY = Options(
    seconds=1, warm_up_seconds=0, rounds=1, images=50, open_seconds=0.2, steps=2, tries=1, checked=5
)


@pytest.fixture(scope="module")
def gateway(triton: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    pids = {"Triton": triton.running.pid}
    folder = tmp_path_factory.mktemp("bench") / "gateway"
    with running_inferway(folder, triton.endpoint, title="Inferway", pids=pids) as system:
        yield system


def test_a_gateway_and_its_engine_are_compared(gateway: System, triton: Engine) -> None:
    ours, direct = compare(gateway, TINY), compare(triton_system(triton), TINY, gateway)
    assert set(ours["closed"][JSON]["cpu_us"]) == {"gateway", "Triton"}
    assert direct["ours_to_it"] > 0
    for row in (ours, direct):
        assert set(row["closed"]) == {JSON, BINARY}
        for cell in row["closed"].values():
            assert cell["per_second"] > 0
            assert 0 < cell["p50_ms"] <= cell["p99_ms"]
            assert all(us > 0 for us in cell["cpu_us"].values())
        assert row["offline"]["per_second"] >= row["closed"][JSON]["per_second"]


def test_a_call_over_grpc_is_answered_and_a_refused_one_is_a_failure(gateway: System) -> None:
    images = list(distinct_images(20))
    assert measure(gateway, GRPC, images, connections=8, **TINY.lengths).loop.requests > 8
    with pytest.raises(LoadFailed, match="without a message"):
        measure(replace(gateway, metadata=()), GRPC, images, connections=8, **TINY.lengths)  # without its key
    assert grpc_loop(
        gateway.grpc,
        [grpc_message(image) for image in images],
        connections=1,
        in_flight=1,
        seconds=0.1,
        metadata=gateway.metadata,
    ).requests


def test_a_refused_request_over_http_is_a_failure(gateway: System) -> None:
    encoding = replace(gateway.encodings[JSON], headers={})  # without its key
    requests = encoding.requests(distinct_images(2))
    with pytest.raises(LoadFailed, match="every request with 200"):
        http_loop(gateway.address, requests, connections=2, seconds=1)
    with pytest.raises(LoadFailed, match="answered 401"):
        check(replace(gateway, encodings={JSON: encoding}), 1)
