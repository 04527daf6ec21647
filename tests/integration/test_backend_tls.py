"""TLS to a model server: the real Triton, and files that are renewed while channels are open."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.backends.channel_tls import ChannelTls
from gateway.backends.grpc_channel import GrpcChannel
from gateway.configuration import ConfigurationError
from gateway.http2.call import CallFailed
from gateway.security_settings import EndpointTlsSettings
from services.launch import Running, free_port
from services.protocol import open_inference_pb2 as oip
from services.tensorrt import run as triton
from tests.callers import oip_http
from tests.certificates import Authority, Certificates
from tests.serving import BUILT, MODEL, VENVS, running_gateway

LIVE = "/inference.GRPCInferenceService/ServerLive"
SOON = 10.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@asynccontextmanager
async def a_server(files: Certificates, client_ca: bytes | None = None) -> AsyncIterator[str]:
    """A gRPC server that is live; its address."""

    async def live(_: bytes, __: Any) -> bytes:
        return oip.ServerLiveResponse(live=True).SerializeToString()

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService", {"ServerLive": grpc.unary_unary_rpc_method_handler(live)}
    )
    server.add_generic_rpc_handlers([handler])
    pair = (files.key.read_bytes(), files.certificate.read_bytes())
    credentials = grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def answers(channel: GrpcChannel) -> bool:
    call = channel.method(LIVE)
    try:
        reply = await call(oip.ServerLiveRequest().SerializeToString(), timeout=SOON)
    except CallFailed as error:
        return error.was_sent  # any other failure is none of TLS
    return oip.ServerLiveResponse.FromString(reply).live


async def asked(address: str, **tls: str) -> bool:
    secured = ChannelTls(EndpointTlsSettings(**tls), Path("/"), "t1") if tls else None
    channel = GrpcChannel(address, max_request_bytes=1000, tls=secured)
    try:
        return await answers(channel)
    finally:
        await channel.aclose()


async def test_a_server_is_trusted_by_its_ca_and_its_name(authority: Authority, tmp_path: Path) -> None:
    ca, other = str(authority.ca), str(Authority(tmp_path).ca)
    async with a_server(authority.issue("server")) as address:
        assert await asked(address, ca=ca)
        assert not await asked(address, ca=other)
        assert not await asked(address, ca="system")
        assert not await asked(address, ca=ca, server_name="triton.example")
    async with a_server(authority.issue("named", "triton.example")) as address:
        assert not await asked(address, ca=ca)
        assert await asked(address, ca=ca, server_name="triton.example")


async def test_a_server_that_asks_for_a_certificate_gets_the_gateways(authority: Authority) -> None:
    mine = authority.issue("mine")
    async with a_server(authority.issue("server"), authority.ca.read_bytes()) as address:
        certificate = {"certificate": str(mine.certificate), "key": str(mine.key)}
        assert await asked(address, ca=str(authority.ca), **certificate)
        assert not await asked(address, ca=str(authority.ca))


async def test_renewed_files_are_used_by_the_next_call(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "other")
    ca = tmp_path / "ca.pem"
    shutil.copy(stranger.ca, ca)
    tls = ChannelTls(EndpointTlsSettings(ca=str(ca)), tmp_path, "t1")
    async with a_server(authority.issue("server")) as address:
        channel = GrpcChannel(address, max_request_bytes=1000, tls=tls)
        assert not await answers(channel)
        ca.write_text("half a file")
        tls.refresh()
        assert tls.renewals == 0
        shutil.copy(authority.ca, ca)
        tls.refresh()
        assert tls.renewals == 1
        assert await answers(channel)
        await channel.aclose()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ({"ca": "nope.pem"}, r"endpoints\.t1\.tls: .*nope\.pem: cannot be read: No such file"),
        ({"ca": "broken.pem"}, r"endpoints\.t1\.tls: cannot use .*broken\.pem: no certificate"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_configuration_error(
    tmp_path: Path, tls: dict[str, str], said: str
) -> None:
    (tmp_path / "broken.pem").write_text("x")
    with pytest.raises(ConfigurationError, match=said) as refused:
        ChannelTls(EndpointTlsSettings(**tls), tmp_path, "t1")
    assert "\n" not in str(refused.value)


@pytest.fixture
def secured_triton(tmp_path: Path, authority: Authority) -> Iterator[dict[str, Any]]:
    """The real Triton, whose gRPC speaks TLS and asks for a certificate."""
    files = authority.issue("triton")
    port = free_port()
    launch = triton.launch(
        repository=BUILT / "triton",
        models=[MODEL],
        run_dir=tmp_path / "triton",
        http_port=free_port(),
        grpc_port=port,
        metrics_port=free_port(),
        venv=VENVS / "triton",
    )
    secure = ["--grpc-use-ssl=1", "--grpc-use-ssl-mutual=1", f"--grpc-root-cert={files.ca}"]
    secure += [f"--grpc-server-cert={files.certificate}", f"--grpc-server-key={files.key}"]
    mine = authority.issue("gateway")
    tls = {"ca": str(files.ca), "certificate": str(mine.certificate), "key": str(mine.key)}
    with Running(replace(launch, argv=[*launch.argv, *secure])):
        yield {"backend": "triton", "address": f"127.0.0.1:{port}", "tls": tls}


def test_a_real_triton_answers_over_mtls(secured_triton: dict[str, Any], tmp_path: Path) -> None:
    with running_gateway(tmp_path / "gateway", {"endpoints": {"t1": secured_triton}}) as gateway:
        answered = oip_http(gateway, {})
        assert (answered.status, answered.headers["x-inferway-backend"]) == (200, "triton")
