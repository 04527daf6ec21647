"""Spans: one a request, one a stage, one an attempt, in the caller's trace and without any payload."""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from gateway.balancing.balancer import Balancer
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.latency_quantile import LatencyQuantile
from gateway.balancing.retry_budget import RetryBudget
from gateway.batching.joining import Joining
from gateway.batching.size_limit import SizeLimit
from gateway.caching.memory import MemoryStore
from gateway.chain import Infer, chain
from gateway.errors import EndpointFailed, RejectedByBackend
from gateway.inference import InferRequest, InferResponse, PoolKey, Tensor
from gateway.metrics import Metrics
from gateway.protocols import oip_grpc, oip_http
from gateway.request_id import outgoing_metadata
from gateway.stages.batched import Batched
from gateway.stages.cached import Cached
from gateway.stages.hedged import QUANTILE, Hedged
from gateway.stages.resolved import Resolved
from gateway.stages.retry import Retry
from gateway.stages.routed import Routed
from gateway.stages.single_flight import SingleFlight
from gateway.tracing import Tracing
from services.protocol import open_inference_pb2 as oip
from tests.fakes import FakeInfer, a_contract, a_request, fake_edge, settle, until
from tests.grpc_serving import GrpcServing

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=1"}
UNSAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
ROUTE = "/v2/models/{model}/infer"
HTTP = f"POST {ROUTE}"
GRPC = "inference.GRPCInferenceService/ModelInfer"
WHOLE_CHAIN = ["Resolved", "Cached(memory)", "SingleFlight", "Retry", "Hedged", "Routed", "attempt"]
PAYLOAD = 77
HEX = re.compile("[0-9a-f]{32}")
"""What a request's id looks like, which may have any digits in it."""


class Rig:
    """The gateway's edges and a whole chain over fake backends, each an endpoint; spans end up in memory."""

    def __init__(self, *backends: FakeInfer, sampler: Any = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=ParentBased(sampler), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = tracing = Tracing(provider)
        contract = a_contract()
        edge = fake_edge(FakeInfer(), contract)
        metrics, contracts = Metrics(CollectorRegistry()), {contract.name: contract}
        endpoints = []
        for name, backend in zip("ab", backends, strict=False):
            traced = tracing.endpoint(backend, name=name, kind="fake")
            endpoints.append(Endpoint(name, "fake", traced, is_ready=True))
        pool = PoolKey("adder", "1", "fp32")
        rng = Random(7)  # noqa: S311
        balancer = Balancer(endpoints, pool=pool, attempt_timeout_seconds=0.2, metrics=metrics, rng=rng)

        def hedged(call_next: Infer) -> Infer:
            budget = partial(RetryBudget, ratio=1, floor_per_second=10)
            latencies = {pool: LatencyQuantile(QUANTILE)}
            self.hedged = Hedged(
                call_next, pools={pool: balancer}, latencies=latencies, new_budget=budget, metrics=metrics
            )
            return self.hedged

        cached = partial(Cached, store=MemoryStore(10**6), tier="memory", contracts=contracts)
        infer = chain(
            tracing.stage("Resolved", partial(Resolved, catalog=edge.catalog, max_request_bytes=1000)),
            tracing.stage("Cached(memory)", partial(cached, metrics=metrics)),
            tracing.stage(
                "SingleFlight",
                partial(SingleFlight, contracts=contracts, metrics=metrics, trace=tracing.flight),
            ),
            tracing.stage(
                "Retry",
                partial(
                    Retry,
                    budget_of=lambda _: RetryBudget(ratio=1, floor_per_second=10),
                    max_attempts=3,
                    metrics=metrics,
                ),
            ),
            tracing.stage("Hedged", hedged),
            to=tracing.infer("Routed", Routed({pool: tracing.attempt(balancer)})),
        )
        self.edge = replace(edge, infer=infer, tracing=tracing)

    async def asked(self, request: InferRequest) -> InferResponse:
        """A request of a trace of its own, past the edge."""
        with self.tracing._tracer.start_as_current_span("asked"):
            return await self.edge.infer(request)

    async def http(self, headers: Mapping[str, str] | None = None, values: Sequence[int] = (1, 2)) -> int:
        """The status of one request over OIP REST."""
        tensor = {"name": "values", "datatype": "INT8", "shape": [1, 2], "data": list(values)}
        app = Starlette(routes=list(oip_http.routes(self.edge)))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as client:
            reply = await client.post("/v2/models/adder/infer", json={"inputs": [tensor]}, headers=headers)
        return reply.status_code

    async def grpc(self, headers: Mapping[str, str], model: str = "adder", *, streamed: bool = False) -> None:
        """One request over OIP gRPC; how it ends does not matter."""
        server = GrpcServing(oip_grpc.methods(self.edge), self.edge)
        tensor = oip.ModelInferRequest.InferInputTensor(name="values", datatype="INT8", shape=[1, 2])
        asked = oip.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[b"\x01\x02"])
        async with server, grpc.aio.insecure_channel(server.address) as channel:
            call: Any
            if streamed:
                call = channel.stream_stream(
                    "/inference.GRPCInferenceService/ModelStreamInfer",
                    request_serializer=oip.ModelInferRequest.SerializeToString,
                )(iter([asked, asked]), metadata=tuple(headers.items()))
                assert len([reply async for reply in call]) == 2
            else:
                call = channel.unary_unary(
                    f"/{GRPC}", request_serializer=oip.ModelInferRequest.SerializeToString
                )(asked, metadata=tuple(headers.items()))
                await call.code()

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """What has ended, in the order in which it began."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def tree(self) -> list[str]:
        """Every span's name, after those that it is in."""
        spans = {span.context.span_id: span for span in self.spans}

        def path(span: ReadableSpan) -> str:
            above = spans.get(span.parent.span_id) if span.parent else None
            return f"{path(above)} > {span.name}" if above else span.name

        return [path(span) for span in self.spans]


def chained(*names: str) -> list[str]:
    return [" > ".join(names[: i + 1]) for i in range(len(names))]


async def test_a_request_is_a_tree_of_gateway_stages_and_attempt_in_the_callers_trace() -> None:
    rig = Rig(FakeInfer())
    assert await rig.http(SAMPLED) == 200
    assert rig.tree() == chained(HTTP, *WHOLE_CHAIN)
    assert {f"{span.context.trace_id:032x}" for span in rig.spans} == {TRACE}
    (server,) = rig.named(HTTP)
    assert f"{server.parent.span_id:016x}" == CALLER
    assert server.kind.name == "SERVER"
    facts = dict(server.attributes)
    assert facts.pop("inferway.request_id")
    assert facts == {
        "http.request.method": "POST",
        "http.route": ROUTE,
        "http.response.status_code": 200,
        "inferway.model": "adder",
        "inferway.version": "1",
        "inferway.variant": "fp32",
        "inferway.protocol": "oip_http",
        "inferway.outcome": "ok",
        "inferway.cache": "miss",
        "inferway.backend": "fake",
    }


async def test_over_grpc_it_is_the_same_tree() -> None:
    rig = Rig(FakeInfer())
    await rig.grpc(SAMPLED)
    assert rig.tree() == chained(GRPC, *WHOLE_CHAIN)
    (server,) = rig.named(GRPC)
    assert f"{server.context.trace_id:032x}" == TRACE
    assert server.attributes["rpc.response.status_code"] == "OK"
    assert server.attributes["inferway.protocol"] == "oip_grpc"


async def test_each_request_of_a_stream_is_a_tree_of_its_own() -> None:
    rig = Rig(FakeInfer())
    await rig.grpc(SAMPLED, streamed=True)
    servers = rig.named("inference.GRPCInferenceService/ModelStreamInfer")
    assert [f"{span.context.trace_id:032x}" for span in servers] == [TRACE] * 2


async def test_a_hit_ends_where_the_answer_is() -> None:
    rig = Rig(FakeInfer())
    await rig.http()
    before = len(rig.spans)
    await rig.http()
    assert rig.tree()[before:] == chained(HTTP, "Resolved", "Cached(memory)")
    assert rig.named(HTTP)[1].attributes["inferway.cache"] == "memory"


async def test_each_attempt_says_where_it_was_and_how_it_ended() -> None:
    rig = Rig(FakeInfer(EndpointFailed(f"it saw {PAYLOAD}")), FakeInfer(EndpointFailed("x")))
    assert await rig.http() == 503
    attempts = rig.named("attempt")
    assert len(attempts) == 3  # the third finds no endpoint left
    told = [dict(span.attributes) for span in attempts]
    assert [each["inferway.attempt"] for each in told] == [1, 2, 3]
    assert {each["inferway.endpoint"] for each in told[:2]} == {"a", "b"}
    assert [each["inferway.outcome"] for each in told] == ["EndpointFailed", "EndpointFailed", "unavailable"]
    assert {each["inferway.backend"] for each in told[:2]} == {"fake"}
    assert {span.status.status_code.name for span in attempts} == {"ERROR"}
    (server,) = rig.named(HTTP)
    assert server.attributes["http.response.status_code"] == 503
    assert server.attributes["error.type"] == "Unavailable"
    assert server.status.status_code.name == "ERROR"


async def test_the_attempts_of_a_batch_say_where_it_was_and_are_linked_to_the_first() -> None:
    engine = FakeInfer(lambda request: (Tensor("sum", "INT8", (request.inputs[0].shape[0], 1), b"123"),))
    rig = Rig(engine)
    metrics = Metrics(CollectorRegistry())
    pool = PoolKey("adder", "1", "fp32")
    endpoint = Endpoint("a", "fake", rig.tracing.endpoint(engine, name="a", kind="fake"), is_ready=True)
    balancer = Balancer([endpoint], pool=pool, attempt_timeout_seconds=5, metrics=metrics, rng=Random(7))  # noqa: S311
    batched = Batched(
        balancer,
        model="adder",
        idle_instances=balancer.idle_instances,
        joining=Joining(a_contract()),
        size_limit=SizeLimit(4, 1.0),
        max_bytes=1000,
        budget=RetryBudget(ratio=1, floor_per_second=10),
        metrics=metrics,
        trace=rig.tracing.flight,
    )
    rig.edge = replace(rig.edge, infer=rig.tracing.infer("each", rig.tracing.attempt(batched)))
    engine.is_open.clear()
    request = a_request(version="1", variant="fp32")
    tasks = [asyncio.create_task(rig.asked(request)) for _ in range(2)]
    await settle()
    tasks += [asyncio.create_task(rig.asked(request)) for _ in range(3)]
    await settle()
    tasks[0].cancel()
    tasks[1].cancel()
    await settle()
    engine.is_open.set()
    await asyncio.gather(*tasks[2:])
    attempts = [span for span in rig.named("attempt") if span.attributes["inferway.outcome"] == "ok"]
    assert len(engine.requests) == 3
    assert [span.attributes["inferway.endpoint"] for span in attempts] == ["a"] * 3
    assert [span.attributes["inferway.backend"] for span in attempts] == ["fake"] * 3
    first, *others = attempts
    assert [link.context.span_id for span in others for link in span.links] == [first.context.span_id] * 2
    assert not first.links


async def test_a_hedge_is_a_second_attempt_below_the_same_span() -> None:
    backends = [FakeInfer(), FakeInfer()]
    rig = Rig(*backends)
    for _ in range(100):
        rig.hedged._pools[PoolKey("adder", "1", "fp32")].latency.observe(0.001, time.monotonic())
    for backend in backends:
        backend.is_open.clear()
    task = asyncio.create_task(rig.http())
    await until(lambda: all(backend.requests for backend in backends))
    (second,) = (each for each in backends if each.requests[0].excluded)
    second.is_open.set()
    assert await task == 200
    assert rig.tree() == [*chained(HTTP, *WHOLE_CHAIN), *chained(HTTP, *WHOLE_CHAIN)[-2:]]
    told = [dict(span.attributes) for span in rig.named("attempt")]
    assert [(each["inferway.attempt"], each["inferway.outcome"]) for each in told] == [
        (1, "cancelled"),
        (2, "ok"),
    ]
    assert {span.status.status_code.name for span in rig.named("attempt")} == {"UNSET"}


async def test_an_attempt_that_is_given_up_says_so() -> None:
    backend = FakeInfer()
    backend.is_open.clear()
    rig = Rig(backend)
    assert await rig.http() == 503
    assert rig.named("attempt")[0].attributes["inferway.outcome"] == "AttemptTimedOut"


async def test_the_callers_fault_is_no_error_of_the_gateway() -> None:
    rig = Rig(FakeInfer(RejectedByBackend("x")))
    assert await rig.http() == 400
    assert {span.attributes["inferway.outcome"] for span in rig.spans if span.attributes} == {
        "invalid_argument"
    }
    assert {span.status.status_code.name for span in rig.spans} == {"UNSET"}


async def test_who_joins_a_flight_is_linked_to_who_began_it() -> None:
    backend = FakeInfer()
    backend.is_open.clear()
    rig = Rig(backend)
    first = asyncio.create_task(rig.http(SAMPLED))
    await settle()
    second = asyncio.create_task(rig.http())
    await settle()
    backend.is_open.set()
    assert await asyncio.gather(first, second) == [200, 200]  # type: ignore[comparison-overlap]
    assert len(backend.requests) == 1
    leader, follower = rig.named("SingleFlight")
    assert not leader.links
    (link,) = follower.links
    assert link.context.span_id == leader.context.span_id
    assert leader.context.trace_id != follower.context.trace_id


@pytest.mark.parametrize("bad", ["", "nonsense", f"00-{'0' * 32}-{CALLER}-01", f"00-{TRACE}-{CALLER}"])
async def test_a_traceparent_that_is_none_begins_a_new_trace(bad: str) -> None:
    rig = Rig(FakeInfer())
    assert await rig.http({"traceparent": bad, "tracestate": "a=1"}) == 200
    (server,) = rig.named(HTTP)
    assert server.parent is None
    assert f"{server.context.trace_id:032x}" != TRACE


async def test_the_caller_decides_on_sampling_and_the_sampler_on_the_rest() -> None:
    for sampler, headers, expected in [
        (ALWAYS_ON, UNSAMPLED, 0),
        (ALWAYS_OFF, SAMPLED, 8),
        (ALWAYS_OFF, {}, 0),
        (ALWAYS_ON, {}, 8),
    ]:
        rig = Rig(FakeInfer(), sampler=sampler)
        assert await rig.http(headers) == 200
        assert len(rig.spans) == expected


class _Listening(FakeInfer):
    """A backend that keeps the metadata that its server would be sent."""

    async def __call__(self, request: Any, /) -> Any:
        self.metadata = dict(outgoing_metadata() or ())
        return await super().__call__(request)


@pytest.mark.parametrize(("headers", "flag"), [(SAMPLED, "01"), (UNSAMPLED, "00")])
async def test_the_server_gets_the_trace_with_the_attempt_as_its_parent(
    headers: Mapping[str, str], flag: str
) -> None:
    backend = _Listening()
    rig = Rig(backend)
    await rig.http({**headers, "x-request-id": "one"})
    version, trace, parent, flags = backend.metadata["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, flag)
    assert backend.metadata["x-request-id"] == "one"
    assert backend.metadata.get("tracestate") == headers.get("tracestate")
    attempts = [f"{span.context.span_id:016x}" for span in rig.named("attempt")]
    assert attempts == ([parent] if flag == "01" else [])


async def test_a_long_tracestate_is_cut_between_entries() -> None:
    backend = _Listening()
    rig = Rig(backend)
    entries = [f"v{number}={'x' * 60}" for number in range(30)]
    await rig.http({**SAMPLED, "tracestate": ",".join(entries)})
    passed = backend.metadata["tracestate"].split(",")
    assert passed == entries[: len(passed)]
    assert 512 - 64 < len(backend.metadata["tracestate"]) <= 512


async def test_a_warm_up_belongs_to_no_trace() -> None:
    backend = _Listening()
    rig = Rig(backend)
    traced = rig.tracing.endpoint(backend, name="a", kind="fake")
    await traced(a_request(version="1", variant="fp32"))
    assert backend.metadata == {}
    assert rig.spans == []


async def test_no_span_has_the_payload_or_an_errors_text() -> None:
    rig = Rig(FakeInfer(EndpointFailed(f"the row {PAYLOAD}")))
    assert await rig.http(values=(PAYLOAD, PAYLOAD)) == 503
    assert await rig.http(values=(PAYLOAD,) * 3) == 400
    await rig.grpc({}, model=f"model-{PAYLOAD}")
    facts = [str(value) for span in rig.spans for value in (span.attributes or {}).values()]
    assert "adder" in facts
    assert not [fact for fact in facts if str(PAYLOAD) in fact and not HEX.fullmatch(fact)]
    assert not any(span.events for span in rig.spans)
    assert {span.status.description for span in rig.spans} == {None}
    assert rig.named(GRPC)[0].attributes["inferway.model"] == "unknown"
