"""The request's id: taken when it is sane, made when it is not, and back on every reply."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from starlette.applications import Starlette

from gateway import request_id
from gateway.app import build
from gateway.errors import Unauthenticated, Unavailable
from gateway.loading import load_settings
from gateway.protocols import oip_grpc, oip_http
from gateway.protocols.grpc_calls import Service
from gateway.protocols.grpc_keys import GrpcKeys
from gateway.protocols.grpc_methods import Context
from gateway.request_id import REQUEST_ID, TRACE_METADATA, bind_request_id, outgoing_metadata
from gateway.stages.measured import Measurement
from tests.fakes import FakeInfer, a_contract, fake_edge
from tests.grpc_serving import GrpcServing

MADE = re.compile("[0-9a-f]{32}")
BODY = {"id": "mine", "inputs": [{"name": "values", "datatype": "INT8", "shape": [1, 2], "data": [1, 2]}]}
INFER = "/v2/models/adder/infer"


@pytest.mark.parametrize("sent", ["a", "x" * 128, "req-1/2:3", "!~"])
def test_a_sane_id_is_kept(sent: str) -> None:
    context = copy_context()
    assert context.run(bind_request_id, sent) == context[REQUEST_ID] == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a\n", "é", "\x7f", "a\x00"])
def test_any_other_gives_way_to_a_new_one(sent: str) -> None:
    made = [copy_context().run(bind_request_id, sent) for _ in range(100)]
    assert all(MADE.fullmatch(each) for each in made)
    assert len(set(made)) == 100


async def test_tasks_of_a_request_send_its_id_on_and_others_send_nothing() -> None:
    async def work(sent: str) -> request_id.Metadata | None:
        if sent:
            bind_request_id(sent)
        return await asyncio.create_task(tell())

    async def tell() -> request_id.Metadata | None:
        return outgoing_metadata()

    first, second, third = await asyncio.gather(work("one"), work("two"), work(""))
    assert (first, second, third) == ((("x-request-id", "one"),), (("x-request-id", "two"),), None)


async def test_what_the_trace_adds_goes_along() -> None:
    async def work() -> request_id.Metadata | None:
        bind_request_id("one")
        TRACE_METADATA.set((("traceparent", "t"),))
        return outgoing_metadata()

    assert await asyncio.create_task(work()) == (("x-request-id", "one"), ("traceparent", "t"))


async def _over_http(infer: FakeInfer, path: str, **more: Any) -> httpx.Response:
    app = Starlette(routes=list(oip_http.routes(fake_edge(infer, a_contract()))))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as client:
        return await client.post(path, **more)


async def test_over_http_it_is_a_header_of_answers_and_of_refusals() -> None:
    sent = {"x-request-id": "one"}
    answered = await _over_http(FakeInfer(), INFER, json=BODY, headers=sent)
    refused = await _over_http(FakeInfer(), INFER, content=b"{", headers=sent)
    failed = await _over_http(FakeInfer(Unavailable("x")), INFER, json=BODY, headers=sent)
    broken = await _over_http(FakeInfer(ZeroDivisionError()), INFER, json=BODY, headers=sent)
    unmeasured = await _over_http(FakeInfer(), "/v2/repository/index", headers=sent)
    replies = [answered, refused, failed, broken, unmeasured]
    assert [reply.status_code for reply in replies] == [200, 400, 503, 500, 200]
    assert [reply.headers["x-request-id"] for reply in replies] == ["one"] * 5


async def test_an_id_that_is_not_sane_is_not_sent_back() -> None:
    reply = await _over_http(FakeInfer(), INFER, json=BODY, headers={"x-request-id": "a b"})
    assert MADE.fullmatch(reply.headers["x-request-id"])


async def test_the_protocols_own_id_is_another_and_stays_the_clients() -> None:
    infer = FakeInfer()
    reply = await _over_http(infer, INFER, json=BODY, headers={"x-request-id": "one"})
    assert (reply.json()["id"], infer.requests[0].id) == ("mine", "mine")
    without = {key: value for key, value in BODY.items() if key != "id"}
    reply = await _over_http(infer, INFER, json=without, headers={"x-request-id": "one"})
    assert "id" not in reply.json()


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("DELETE", "/ping", 405)])
async def test_what_is_no_route_has_one_too(method: str, path: str, status: int) -> None:
    root = Path(__file__).parents[2]
    app = build(load_settings(root / "inferway.yaml", {}), root).http
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as client:
        reply = await client.request(method, path, headers={"x-request-id": "one"})
    assert (reply.status_code, reply.headers["x-request-id"]) == (status, "one")


class _Echo:
    """A gRPC service whose methods answer, set trailers of their own, or fail."""

    async def answer(self, message: StringValue, _: Measurement, context: Context) -> StringValue:
        context.trailers.append(("own", "1"))
        return message

    async def fail(self, _: StringValue, _measurement: Measurement, _context: Context) -> StringValue:
        raise Unavailable("x")

    async def stream(self, messages: AsyncIterator[Any], _: Context) -> AsyncGenerator[Any, None]:
        async for message in messages:
            if message.value == "fail":
                raise Unavailable("x")
            yield message


async def _over_grpc(name: str, sent: str, text: str = "") -> dict[str, Any]:
    """The trailers of one call."""
    echo = _Echo()
    service = Service(fake_edge(FakeInfer()), "inferway.test.Echo", "test_grpc")
    service.unary("Answer", StringValue, echo.answer, measures=True)
    service.unary("Look", StringValue, echo.answer)
    service.unary("Fail", StringValue, echo.fail, measures=True)
    service.stream("Stream", StringValue, echo.stream)
    server = await GrpcServing(service.methods).start()
    metadata = (("x-request-id", sent),) if sent else ()
    request: dict[str, Any] = {
        "request_serializer": StringValue.SerializeToString,
        "response_deserializer": StringValue.FromString,
    }
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            path = f"/inferway.test.Echo/{name}"
            call: Any
            if name == "Stream":
                call = channel.stream_stream(path, **request)(
                    iter([StringValue(value=text)]), metadata=metadata
                )
                with suppress(grpc.aio.AioRpcError):
                    assert [reply.value async for reply in call] == [text]
            else:
                call = channel.unary_unary(path, **request)(StringValue(value=text), metadata=metadata)
            await call.code()
            return dict(await call.trailing_metadata())
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("name", "text"),
    [("Answer", ""), ("Look", ""), ("Fail", ""), ("Stream", "hello"), ("Stream", "fail")],
)
async def test_over_grpc_it_is_in_the_trailers_of_answers_and_of_failures(name: str, text: str) -> None:
    trailers = await _over_grpc(name, "one", text)
    assert trailers["x-request-id"] == "one"
    assert trailers.get("own") == ("1" if name in {"Answer", "Look"} else None)
    assert trailers.get("retry-after") == ("1" if "fail" in {name.lower(), text} else None)


async def test_a_call_that_is_refused_for_its_key_has_it_too() -> None:
    class NoKey:
        async def admit(self, *_: str, **__: bool) -> None:
            raise Unauthenticated("no key")

    access: Any = NoKey()
    edge = fake_edge(FakeInfer(), a_contract())
    server = GrpcServing(oip_grpc.methods(edge), edge, keys=GrpcKeys(access, edge))
    async with server, grpc.aio.insecure_channel(server.address) as channel:
        method: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        call: Any = method(b"", metadata=(("x-request-id", "one"),))
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        assert dict(await call.trailing_metadata())["x-request-id"] == "one"


async def test_over_grpc_one_is_made_for_a_call_without() -> None:
    assert MADE.fullmatch((await _over_grpc("Answer", ""))["x-request-id"])
