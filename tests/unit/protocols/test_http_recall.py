"""Recall at the edge: known bytes get the answer that reading them would get, and nothing else does."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.caching.memory import MemoryStore
from gateway.caching.recall import Recall
from gateway.chain import chain
from gateway.http_app import http_app
from gateway.inference import InferRequest, InferResponse, Tensor
from gateway.metrics import Metrics
from gateway.protocols.http_reply import HttpReply, coded
from gateway.stages.cached import Cached
from gateway.stages.resolved import Resolved
from tests.fakes import FakeClock, FakeInfer, a_contract, fake_edge

INFER = "/v2/models/adder/infer"
ROUTES = [INFER, "/v2/models/adder/versions/2/infer", "/v1/models/adder:predict", "/predictions/adder"]


def body_of(route: str, values: list[int], **more: Any) -> dict[str, Any]:
    """A request for the sum of two numbers."""
    if route.startswith("/v2"):
        return {"inputs": [{"name": "values", "shape": [1, 2], "datatype": "INT8", "data": values}], **more}
    return {"inputs": {"values": [values]}} if route.startswith("/v1") else {"values": values}


def add(request: InferRequest) -> tuple[Tensor, ...]:
    """The sum."""
    (values,) = request.inputs
    return (Tensor("sum", "INT8", (1, 1), bytes([sum(values.data)])),)


class Rig:
    """The HTTP port over Resolved, Cached(memory) and a FakeInfer that adds.

    Attributes:
        read: how many requests were read, and not recalled.
    """

    def __init__(self) -> None:
        self.infer = FakeInfer(add)
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        edge = fake_edge(self.infer, a_contract(payload="json"))
        self.store = MemoryStore(2**20, clock=self.clock)
        stages = (
            partial(Resolved, catalog=edge.catalog, max_request_bytes=2**20),
            partial(
                Cached,
                store=self.store,
                tier="memory",
                contracts=edge.catalog.contracts,
                metrics=self.metrics,
                wall_clock=self.clock,
            ),
        )
        hits = {"adder": self.metrics.lookups.labels("adder", "memory", "hit")}
        saved = {"adder": self.metrics.cache_saved.labels("adder", "memory")}
        recall: Recall[HttpReply] = Recall(self.store, 2**20, hits, saved)
        infer = chain(*stages, to=self.infer)

        async def counted(request: InferRequest, /) -> InferResponse:
            self.read += 1
            return await infer(request)

        self.edge = replace(edge, infer=counted, recall=recall)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(http_app(self.edge)), base_url="http://gateway"
        )
        self.read = 0

    def post(self, route: str, body: Any, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return asyncio.run(self.client.post(route, content=content, headers=named))

    def lookups(self, result: str) -> float:
        labels = {"model": "adder", "tier": "memory", "result": result}
        return self.registry.get_sample_value("gateway_cache_lookups_total", labels) or 0.0


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize("route", ROUTES)
def test_the_third_of_equal_requests_is_not_read_and_gets_what_the_second_got(rig: Rig, route: str) -> None:
    json = {"content_type": "application/json"}
    miss, hit, recalled = [rig.post(route, body_of(route, [1, 2]), **json) for _ in range(3)]
    assert [reply.status_code for reply in (miss, hit, recalled)] == [200] * 3
    assert (rig.read, len(rig.infer.requests)) == (2, 1)
    assert (recalled.content, miss.content) == (hit.content, hit.content)
    ids = [reply.headers.pop("x-request-id") for reply in (hit, recalled)]
    assert ids[0] != ids[1]
    assert recalled.headers == hit.headers
    assert recalled.headers["x-inferway-cache"] == "memory"
    assert (rig.lookups("hit"), rig.lookups("miss")) == (2, 1)


@pytest.mark.parametrize("route", ROUTES)
def test_other_bytes_get_their_own_answer(rig: Rig, route: str) -> None:
    json = {"content_type": "application/json"}
    for _ in range(3):
        three, seven = (rig.post(route, body_of(route, values), **json) for values in ([1, 2], [3, 4]))
        assert (b"3" in three.content, b"7" in seven.content) == (True, True)


def test_every_caller_gets_its_own_id(rig: Rig) -> None:
    for _ in range(3):
        for name in ("a", "b"):
            assert rig.post(INFER, body_of(INFER, [1, 2], id=name)).json()["id"] == name
    assert "id" not in rig.post(INFER, body_of(INFER, [1, 2])).json()
    assert len(rig.infer.requests) == 1


def test_the_variant_in_a_header_or_in_the_query_is_heeded(rig: Rig) -> None:
    body = body_of(INFER, [1, 2], parameters={})
    path = "/v2/models/adder/versions/1/infer"
    for _ in range(3):
        said = [
            rig.post(path, body).headers["x-inferway-variant"],
            rig.post(path, body, X_Inferway_Variant="int8").headers["x-inferway-variant"],
            rig.post(f"{path}?variant=int8", body).headers["x-inferway-variant"],
        ]
        assert said == ["fp32", "int8", "int8"]
    assert rig.post(path, body, X_Inferway_Variant="nothing").status_code == 404


def test_what_is_malformed_is_refused_however_often_its_bytes_were_answered(rig: Rig) -> None:
    body = body_of(INFER, [1, 2])
    for _ in range(3):
        assert rig.post(INFER, body).status_code == 200
        assert rig.post(INFER, body, X_Request_Priority="first").status_code == 400
        assert rig.post(INFER, body, X_Request_Timeout_Ms="soon").status_code == 400


def test_after_its_time_or_a_void_an_answer_is_asked_for_anew(rig: Rig) -> None:
    body = body_of(INFER, [1, 2])
    for _ in range(3):
        rig.post(INFER, body)
    rig.clock.now += 60
    assert rig.post(INFER, body).headers["x-inferway-cache"] == "miss"
    for _ in range(3):
        rig.post(INFER, body)
    asyncio.run(rig.store.void("adder"))
    assert rig.post(INFER, body).headers["x-inferway-cache"] == "miss"
    assert len(rig.infer.requests) == 3


def test_a_moved_label_is_heeded(rig: Rig) -> None:
    route = "/v1/models/adder/labels/stable:predict"
    body = body_of(route, [1, 2])
    for _ in range(3):
        assert rig.post(route, body).headers["x-inferway-version"] == "1"
    rig.edge.catalog.move_label("adder", "stable", "2")
    assert rig.post(route, body).headers["x-inferway-version"] == "2"


async def test_a_reply_that_is_compressed_for_one_caller_has_not_the_header_lines_of_the_other() -> None:
    reply = HttpReply(b"0" * 5000, headers={"x-fact": "kept"}).with_lines()
    assert b"content-length: 5000\r\nx-fact: kept\r\n" in reply.lines
    compressed = await coded(reply, "gzip")
    assert (compressed.lines, await coded(reply, "identity")) == (b"", reply)
