"""Listeners stay, configurations change: a request meets the handlers that are there when it begins."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from gateway.protocols.latest import LatestHttp
from gateway.protocols.oip_grpc import methods
from services.protocol import open_inference_pb2 as oip
from tests.fakes import FakeInfer, a_contract, fake_edge
from tests.grpc_serving import GrpcServing

INFER = "/inference.GRPCInferenceService/ModelInfer"


def a_message() -> oip.ModelInferRequest:
    message = oip.ModelInferRequest(model_name="adder")
    message.inputs.add(name="values", datatype="INT8", shape=[1, 2])
    message.raw_input_contents.append(b"\x01\x02")
    return message


async def test_a_call_whose_message_comes_late_meets_the_newest_configuration() -> None:
    old, new = FakeInfer(), FakeInfer()
    latest = [methods(fake_edge(infer, a_contract())) for infer in (old, new)]
    serving = GrpcServing(lambda: latest[0])
    async with serving, grpc.aio.insecure_channel(serving.address) as channel:
        # A stream of one message is, on the wire, a unary call that takes its time.
        slow: Any = channel.stream_unary(
            INFER,
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelInferResponse.FromString,
        )

        async def messages() -> AsyncIterator[oip.ModelInferRequest]:
            await asyncio.sleep(0.2)
            latest.pop(0)
            yield a_message()

        await slow(messages())
    assert (len(old.requests), len(new.requests)) == (0, 1)


async def test_an_http_request_meets_the_newest_app() -> None:
    seen = []

    async def first(*_: object) -> None:
        seen.append("first")

    async def second(*_: object) -> None:
        seen.append("second")

    apps: list[Any] = [second, first]
    app = LatestHttp(lambda: apps[-1])
    nothing: Any = None
    await app(nothing, nothing, nothing)
    apps.pop()
    await app(nothing, nothing, nothing)
    assert seen == ["first", "second"]
