"""TLS and mTLS on both listeners of a real gateway, and certificates that are renewed while it runs."""

import contextlib
import hashlib
import http.client
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.callers import OIP, oip_message, over_grpc, over_http
from tests.certificates import Authority, Certificates
from tests.serving import EMBEDDED, StartedGateway, running_gateway

SOON = 10.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def serving(folder: Path, files: Certificates, **tls: str) -> Any:
    """A gateway with these files, which are copied so that a test may renew them."""
    folder.mkdir(exist_ok=True)
    shutil.copy(files.certificate, folder / "tls.crt")
    shutil.copy(files.key, folder / "tls.key")
    settings = {"tls": {"certificate": "tls.crt", "key": "tls.key", **tls}}
    return running_gateway(folder, {"endpoints": {"embedded": EMBEDDED}, "server": settings})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def gateway(folder: Path, authority: Authority) -> Iterator[StartedGateway]:
    with serving(folder, authority.issue("gateway")) as started:
        yield started


@pytest.fixture(scope="module")
def mtls_gateway(folder: Path, authority: Authority) -> Iterator[StartedGateway]:
    with serving(folder / "mtls", authority.issue("mtls"), client_ca=str(authority.ca)) as started:
        yield started


def infers_over_http(gateway: StartedGateway, tls: ssl.SSLContext | None) -> bool:
    try:
        return over_http(gateway.http, "GET", "/v2", tls=tls).status == 200
    except (OSError, http.client.HTTPException):
        return False


def infers_over_grpc(gateway: StartedGateway, tls: grpc.ChannelCredentials | None) -> bool:
    return over_grpc(gateway.grpc, f"{OIP}ModelInfer", oip_message(), tls=tls).status == "OK"


def trusting(ca: Path) -> tuple[ssl.SSLContext, grpc.ChannelCredentials]:
    return ssl.create_default_context(cafile=ca), grpc.ssl_channel_credentials(ca.read_bytes())


def test_both_listeners_speak_tls_to_who_trusts_their_ca_and_nothing_else(
    gateway: StartedGateway, authority: Authority, tmp_path: Path
) -> None:
    http_tls, grpc_tls = trusting(authority.ca)
    assert infers_over_http(gateway, http_tls)
    assert infers_over_grpc(gateway, grpc_tls)
    http_tls, grpc_tls = trusting(Authority(tmp_path).ca)
    assert not infers_over_http(gateway, http_tls)
    assert not infers_over_grpc(gateway, grpc_tls)
    assert not infers_over_http(gateway, None)
    assert not infers_over_grpc(gateway, None)


def test_the_admin_port_stays_in_the_clear(gateway: StartedGateway) -> None:
    assert over_http(gateway.admin, "GET", "/livez").status == 200


def test_an_old_version_of_tls_is_refused(gateway: StartedGateway, authority: Authority) -> None:
    context, _ = trusting(authority.ca)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    assert not infers_over_http(gateway, context)


def test_with_a_client_ca_only_clients_with_its_certificates_are_let_in(
    mtls_gateway: StartedGateway, authority: Authority, tmp_path: Path
) -> None:
    http_tls, grpc_tls = trusting(authority.ca)
    assert not infers_over_http(mtls_gateway, http_tls)
    assert not infers_over_grpc(mtls_gateway, grpc_tls)
    for client, is_known in (
        (authority.issue("client"), True),
        (Authority(tmp_path).issue("stranger"), False),
    ):
        http_tls, _ = trusting(authority.ca)
        http_tls.load_cert_chain(client.certificate, client.key)
        pair = (client.key.read_bytes(), client.certificate.read_bytes())
        grpc_tls = grpc.ssl_channel_credentials(authority.ca.read_bytes(), *pair)
        assert infers_over_http(mtls_gateway, http_tls) is is_known
        assert infers_over_grpc(mtls_gateway, grpc_tls) is is_known


def test_a_client_ca_that_is_taken_away_is_trusted_no_more(authority: Authority, tmp_path: Path) -> None:
    files, clients = tmp_path / "gateway", Authority(tmp_path / "clients")
    client = clients.issue("client")
    http_tls, _ = trusting(authority.ca)
    http_tls.load_cert_chain(client.certificate, client.key)
    http_tls.maximum_version = ssl.TLSVersion.TLSv1_2  # whose sessions are there once the handshake is done
    pair = (client.key.read_bytes(), client.certificate.read_bytes())
    grpc_tls = grpc.ssl_channel_credentials(authority.ca.read_bytes(), *pair)
    files.mkdir()
    (files / "clients.crt").write_bytes(clients.ca.read_bytes())
    with serving(files, authority.issue("strict"), client_ca="clients.crt") as gateway:
        assert infers_over_http(gateway, http_tls)
        assert infers_over_grpc(gateway, grpc_tls)
        with handshake(gateway.http, http_tls) as secured:
            session = secured.session
        assert resumes(gateway, http_tls, session)
        (files / "clients.crt").write_bytes(authority.ca.read_bytes())
        until_logged(gateway, "certificate_renewed")
        assert not infers_over_http(gateway, http_tls)
        assert not infers_over_grpc(gateway, grpc_tls)
        assert not resumes(gateway, http_tls, session)


@contextlib.contextmanager
def handshake(
    address: str, tls: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> Iterator[ssl.SSLSocket]:
    host, port = address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=SOON) as raw,
        tls.wrap_socket(raw, server_hostname=host, session=session) as secured,
    ):
        yield secured


def resumes(gateway: StartedGateway, tls: ssl.SSLContext, session: ssl.SSLSession | None) -> bool:
    """Whether a session goes on, without another look at the client's certificate, and is answered."""
    try:
        with handshake(gateway.http, tls, session) as secured:
            secured.sendall(b"GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n")
            return secured.session_reused is True and secured.recv(1024).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def until_logged(gateway: StartedGateway, event: str) -> None:
    give_up = time.monotonic() + SOON
    while event not in gateway.running.launch.log.read_text():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def served(address: str, ca: Path) -> str:
    """The digest of the certificate that a port shows."""
    context = ssl.create_default_context(cafile=ca)
    host, port = address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=SOON) as raw,
        context.wrap_socket(raw, server_hostname=host) as secured,
    ):
        return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()


def test_a_renewed_certificate_is_served_without_a_restart_and_a_broken_one_is_not(
    authority: Authority, tmp_path: Path
) -> None:
    with serving(tmp_path, authority.issue("first")) as gateway:
        first = served(gateway.http, authority.ca)
        assert served(gateway.grpc, authority.ca) == first
        open_connection = http.client.HTTPSConnection(gateway.http, context=trusting(authority.ca)[0])
        open_connection.request("GET", "/v2")
        assert open_connection.getresponse().read()
        renewed = authority.issue("second")
        shutil.copy(renewed.key, tmp_path / "tls.key")  # for a moment key and certificate do not fit
        time.sleep(1.5)
        assert served(gateway.http, authority.ca) == first
        assert "certificate_not_renewed" in gateway.running.launch.log.read_text()
        shutil.copy(renewed.certificate, tmp_path / "tls.crt")
        give_up = time.monotonic() + SOON
        while {served(port, authority.ca) for port in (gateway.http, gateway.grpc)} & {first}:
            assert time.monotonic() < give_up
            time.sleep(0.1)
        assert served(gateway.http, authority.ca) == served(gateway.grpc, authority.ca)
        open_connection.request("GET", "/v2")  # goes on where it was
        assert open_connection.getresponse().status == 200
        open_connection.close()


def test_a_client_that_says_goodbye_with_its_request_leaves_no_warning(
    gateway: StartedGateway, authority: Authority
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    host, port = gateway.http.split(":")
    secured = trusting(authority.ca)[0].wrap_bio(incoming, outgoing, server_hostname=host)
    with socket.create_connection((host, int(port)), timeout=SOON) as raw:
        while True:
            try:
                secured.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(65536))
        raw.sendall(outgoing.read())
        secured.write(b"GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n")
        with contextlib.suppress(ssl.SSLWantReadError):
            secured.unwrap()
        raw.sendall(outgoing.read())  # both at once: the goodbye is read before the request is answered
        while raw.recv(65536):
            pass
    assert "eof_received" not in gateway.running.launch.log.read_text()


def test_a_body_that_comes_slowly_over_tls_is_read(gateway: StartedGateway, authority: Authority) -> None:
    context, _ = trusting(authority.ca)
    host, port = gateway.http.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=SOON) as raw,
        context.wrap_socket(raw, server_hostname=host) as secured,
    ):
        secured.sendall(b"POST /v2/repository/index HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n")
        time.sleep(0.2)
        secured.sendall(b"{}")
        assert secured.recv(4096).startswith(b"HTTP/1.1 200 ")
