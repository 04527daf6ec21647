"""The channel to a model server: what goes along with a message, and how a new address is found."""

import asyncio
import struct
import time
from typing import Any

import grpc

from gateway.backends.grpc_channel import GrpcChannel
from gateway.request_id import TRACE_METADATA, bind_request_id

PATH = "/inferway.test.Echo/Answer"


class _Server(grpc.GenericRpcHandler):
    """Echoes, and keeps the metadata of the last call."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        self.metadata = dict(details.invocation_metadata or ())
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, message: bytes, _: Any) -> bytes:
        return message


async def test_a_call_for_a_request_has_its_id_and_its_trace_and_any_other_has_none() -> None:
    handler, server = _Server(), grpc.aio.server()
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = GrpcChannel(f"127.0.0.1:{port}", max_request_bytes=1000)

    async def for_a_request() -> None:
        bind_request_id("one")
        TRACE_METADATA.set((("traceparent", "00-a-b-01"), ("tracestate", "v=1")))
        await ask()

    async def ask() -> None:
        assert await channel.method(PATH)(b"hello", timeout=5.0)

    await asyncio.create_task(for_a_request())
    sent = {key: handler.metadata.get(key) for key in ("x-request-id", "traceparent", "tracestate")}
    assert sent == {"x-request-id": "one", "traceparent": "00-a-b-01", "tracestate": "v=1"}
    await asyncio.create_task(ask())
    assert not {"x-request-id", "traceparent", "tracestate"} & handler.metadata.keys()
    await channel.aclose()
    await server.stop(None)


class _NameServer(asyncio.DatagramProtocol):
    """A DNS server that has one IPv4 address for every name (RFC 1035)."""

    address = ""
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override] # it is one
        self.transport = transport

    def datagram_received(self, data: bytes, caller: Any) -> None:
        question = data[12 : data.index(b"\0", 12) + 5]
        answers = int(question[-4:-2] == b"\0\1")  # A; nothing for AAAA and what else there is
        reply = data[:2] + b"\x81\x80" + struct.pack(">4H", 1, answers, 0, 0) + question
        if answers:
            address = bytes(map(int, self.address.split(".")))
            reply += b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, len(address)) + address
        self.transport.sendto(reply, caller)


async def test_a_server_that_comes_back_at_another_address_is_found_within_seconds() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([_Server()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(_NameServer, local_addr=("127.0.0.1", 0))
    names.address = "127.0.0.2"  # where nobody listens
    resolver = transport.get_extra_info("sockname")[1]
    channel = GrpcChannel(f"dns://127.0.0.1:{resolver}/engine.test:{port}", max_request_bytes=1000)

    async def answers() -> bool:
        try:
            return bool(await channel.method(PATH)(b"hello", timeout=5.0))
        except grpc.aio.AioRpcError:
            return False

    assert not await answers()
    names.address = "127.0.0.1"
    moved = time.monotonic()
    while not await answers():
        assert time.monotonic() - moved < 15.0
        await asyncio.sleep(0.1)
    await channel.aclose()
    await server.stop(None)
    transport.close()
