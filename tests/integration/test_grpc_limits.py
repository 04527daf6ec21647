"""What a gRPC client may hold at a real gateway: connections that end in time, metadata, messages."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.protocol import open_inference_pb2 as oip
from tests.callers import OIP, oip_message, over_grpc
from tests.serving import EMBEDDED, StartedGateway, running_gateway

AGE_SECONDS = 0.5
SOON = 20.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedGateway]:
    """One that ends every connection after half a second."""
    server = {"max_connection_age_seconds": AGE_SECONDS, "max_connection_age_grace_seconds": 2.0}
    settings = {"endpoints": {"embedded": EMBEDDED}, "server": server}
    with running_gateway(tmp_path_factory.mktemp("gateway"), settings) as started:
        yield started


class Proxy:
    """Counts the connections that go through it."""

    def __init__(self, address: str) -> None:
        self.host, _, self.port = address.partition(":")
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        upstream, onward = await asyncio.open_connection(self.host, int(self.port))
        await asyncio.gather(_copy(reader, onward), _copy(upstream, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


async def test_a_client_that_stays_connects_again_and_again_without_a_failed_request(
    gateway: StartedGateway,
) -> None:
    proxy = Proxy(gateway.grpc)
    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    answered = 0
    end = time.monotonic() + 8 * AGE_SECONDS
    async with grpc.aio.insecure_channel(address) as channel:
        infer: Any = channel.unary_unary(
            f"{OIP}ModelInfer", response_deserializer=oip.ModelInferResponse.FromString
        )

        async def ask() -> None:
            nonlocal answered
            while time.monotonic() < end:
                await infer(oip_message(), timeout=SOON)  # raises when it fails
                answered += 1

        await asyncio.gather(*(ask() for _ in range(8)))
    server.close()
    assert answered > 100
    assert proxy.connections >= 4


def test_metadata_over_the_limit_are_refused(tmp_path: Path) -> None:
    # Connections last here: gRPC keeps a refusal of metadata back for 0.1 to 1 s (its tarpit), and one that
    # ends of age meanwhile takes it along.
    with running_gateway(tmp_path, {"endpoints": {"embedded": EMBEDDED}}) as gateway:
        assert over_grpc(gateway.grpc, f"{OIP}ServerLive", headers={"x-a": "b" * 8_000}).status == "OK"
        refused = over_grpc(gateway.grpc, f"{OIP}ServerLive", headers={"x-a": "b" * 20_000})
        assert refused.status == "RESOURCE_EXHAUSTED"


def test_a_message_that_never_comes_ends_with_its_connection(gateway: StartedGateway) -> None:
    def nothing() -> Iterator[bytes]:
        time.sleep(SOON)
        yield b""

    started = time.monotonic()
    with grpc.insecure_channel(gateway.grpc) as channel:
        call: Any = channel.stream_unary(f"{OIP}ModelInfer")
        with pytest.raises(grpc.RpcError):
            call(nothing())
    assert time.monotonic() - started < SOON / 2
