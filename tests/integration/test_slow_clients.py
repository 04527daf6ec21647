"""Clients that send slowly, take slowly, or only hold connections, at a real gateway, with TLS and without.

The gateway is the real program. Only its limits are shortened, so that nobody has to wait for half a minute.
"""

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from tests.callers import OIP, over_grpc, over_http
from tests.certificates import Authority
from tests.serving import EMBEDDED, MODEL, StartedGateway, running_gateway

HEAD_SECONDS, BODY_SECONDS, IDLE_SECONDS, UNTAKEN_SECONDS = 2, 3, 2, 3
SLACK_SECONDS = 8.0
"""For a busy machine; the gateway's own limits are 30 seconds and more."""
BIG = 20 * 1024 * 1024
FILES = 600
QUIET_FILES = 60
"""More than the gateway has open while nobody is connected."""
DRAIN_SECONDS = 2
PROGRAM = f"""
import resource, sys, warnings
from gateway import grpc_server, http_connection, http_server, listener, server
from gateway.__main__ import main
from gateway.protocols import http

warnings.simplefilter("ignore", ResourceWarning)  # of connections that end with the loop
resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))
http_connection.HEAD_SECONDS = http_connection.UNREAD_SECONDS = {HEAD_SECONDS}
http.BODY_SECONDS = {BODY_SECONDS}
http_server.KEEP_ALIVE_SECONDS = grpc_server.OPENING_SECONDS = listener.HANDSHAKE_SECONDS = {IDLE_SECONDS}
server.UNTAKEN_SECONDS = {UNTAKEN_SECONDS}
sys.exit(main())
"""
HEAD = b"POST /v2/models/%b/infer HTTP/1.1\r\nhost: a\r\n" % MODEL.encode()


class Rig:
    """A gateway, and how to connect to it."""

    def __init__(self, gateway: StartedGateway, tls: ssl.SSLContext | None) -> None:
        self.gateway = gateway
        self.tls = tls

    def connect(self, address: str, *, receives_bytes: int = 0) -> socket.socket:
        """A connection, which takes no more than `receives_bytes` ahead of its reader."""
        raw = socket.socket()
        if receives_bytes:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives_bytes)
        raw.settimeout(SLACK_SECONDS)
        host, port = address.split(":")
        raw.connect((host, int(port)))
        if self.tls is None or address != self.gateway.http:
            return raw
        return self.tls.wrap_socket(raw, server_hostname=host)

    def files(self) -> int:
        """How many the gateway has open."""
        return psutil.Process(self.gateway.running.pid).num_fds()

    def answers_at_once(self) -> bool:
        """Whether others are answered meanwhile, on every port."""
        started = time.monotonic()
        assert over_http(self.gateway.http, "GET", "/v2", tls=self.tls).status == 200
        assert over_http(self.gateway.admin, "GET", "/livez").status == 200
        if self.tls is None:
            assert over_grpc(self.gateway.grpc, f"{OIP}ServerLive").status == "OK"
        return time.monotonic() - started < SLACK_SECONDS / 4


@contextlib.contextmanager
def a_rig(folder: Path, *, secured: bool) -> Iterator[Rig]:
    server: dict[str, object] = {"drain_seconds": DRAIN_SECONDS}
    tls = None
    if secured:
        files = Authority(folder / "ca").issue("gateway")
        server["tls"] = {"certificate": str(files.certificate), "key": str(files.key)}
        tls = ssl.create_default_context(cafile=files.ca)
    settings = {"endpoints": {"embedded": EMBEDDED}, "server": server}
    with running_gateway(folder / "gateway", settings, program=("-c", PROGRAM)) as gateway:
        yield Rig(gateway, tls)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with a_rig(tmp_path_factory.mktemp("gateway"), secured=request.param) as started:
        yield started


def until(done: Callable[[], bool], seconds: float) -> None:
    """Wait; AssertionError when it is not done in time."""
    give_up = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def trickle(callers: Sequence[socket.socket], byte: bytes, rig: Rig, seconds: float) -> list[bytes]:
    """Send a byte on each connection, again and again, until all are closed; what each was told."""
    told = dict.fromkeys(callers, b"")
    still = set(callers)
    give_up = time.monotonic() + seconds + SLACK_SECONDS
    while still:
        assert time.monotonic() < give_up, f"{len(still)} of {len(callers)} are still served"
        assert rig.answers_at_once()
        for caller in list(still):
            try:
                caller.sendall(byte)
                if select.select([caller], [], [], 0)[0]:
                    chunk = caller.recv(65536)
                    told[caller] += chunk
                    if not chunk:
                        still.remove(caller)
            except OSError:
                still.remove(caller)
        time.sleep(0.2)
    return list(told.values())


def test_a_head_that_trickles_in_ends_its_connection_and_delays_nobody(rig: Rig) -> None:
    with ExitStack() as exits:
        callers = [exits.enter_context(closing(rig.connect(rig.gateway.http))) for _ in range(100)]
        for caller in callers:
            caller.sendall(HEAD + b"x-a: ")
        assert set(trickle(callers, b"b", rig, HEAD_SECONDS)) == {b""}


def test_a_body_that_trickles_in_is_given_up_however_long_its_caller_would_wait(rig: Rig) -> None:
    with ExitStack() as exits:
        callers = [exits.enter_context(closing(rig.connect(rig.gateway.http))) for _ in range(50)]
        for caller in callers:
            caller.sendall(HEAD + b"x-request-timeout-ms: 1e12\r\ncontent-length: 1000000\r\n\r\n")
        for told in trickle(callers, b"0", rig, BODY_SECONDS + HEAD_SECONDS):
            assert told.startswith(b"HTTP/1.1 504 ")


@pytest.mark.parametrize("path", ["/ping", "/v2/health/ready"])
def test_a_body_where_none_belongs_is_not_kept_while_it_comes(rig: Rig, path: str) -> None:
    memory = "process_resident_memory_bytes"
    head = b"GET %b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (path.encode(), BIG)
    before = rig.gateway.metric(memory)
    with ExitStack() as exits:
        for _ in range(8):
            caller = exits.enter_context(closing(rig.connect(rig.gateway.http)))
            caller.sendall(head + bytes(BIG - 1))
            assert caller.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert rig.gateway.metric(memory) - before < 3 * BIG


def test_chunks_of_a_byte_are_given_up_like_any_other_body(rig: Rig) -> None:
    with closing(rig.connect(rig.gateway.http)) as caller:
        caller.sendall(HEAD + b"x-request-timeout-ms: 1e12\r\ntransfer-encoding: chunked\r\n\r\n")
        (told,) = trickle([caller], b"1\r\n \r\n", rig, BODY_SECONDS + HEAD_SECONDS)
        assert told.startswith(b"HTTP/1.1 504 ")


def test_a_connection_that_does_nothing_more_is_closed(rig: Rig) -> None:
    with ExitStack() as exits:
        callers = [exits.enter_context(closing(rig.connect(rig.gateway.http))) for _ in range(50)]
        for caller in callers[:25]:  # the others never say anything
            caller.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\n\r\n")
            assert caller.recv(65536).startswith(b"HTTP/1.1 200 ")
        started = time.monotonic()
        for caller in callers:
            while caller.recv(65536):
                pass
        assert time.monotonic() - started < IDLE_SECONDS + SLACK_SECONDS


def test_a_caller_that_never_takes_its_reply_is_closed_and_its_requests_are_forgotten(rig: Rig) -> None:
    until(lambda: rig.files() < QUIET_FILES, SLACK_SECONDS)
    ask = b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n"  # with a reply of many kilobytes
    with ExitStack() as exits:
        callers = [
            exits.enter_context(closing(rig.connect(rig.gateway.http, receives_bytes=4096)))
            for _ in range(QUIET_FILES)
        ]
        until(lambda: rig.files() > QUIET_FILES, SLACK_SECONDS)
        for caller in callers:
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
                for _ in range(100):
                    caller.send(ask * 10)
        until(lambda: rig.files() < QUIET_FILES, UNTAKEN_SECONDS + 2 * SLACK_SECONDS)
        assert rig.answers_at_once()
    assert "Traceback" not in rig.gateway.running.launch.log.read_text()


def test_a_flood_of_connections_leaves_the_other_ports_theirs(rig: Rig) -> None:
    with ExitStack() as exits:
        for _ in range(FILES):
            with contextlib.suppress(OSError):  # refused, once there are too many
                exits.enter_context(closing(rig.connect(rig.gateway.http)))
        started = time.monotonic()
        assert over_http(rig.gateway.admin, "GET", "/livez").status == 200
        if rig.tls is None:
            assert over_grpc(rig.gateway.grpc, f"{OIP}ServerLive").status == "OK"
        assert time.monotonic() - started < HEAD_SECONDS / 2  # and not only once some of them are closed
        assert rig.files() < FILES * 2 / 3
    until(lambda: rig.files() < FILES / 3, SLACK_SECONDS)
    assert rig.answers_at_once()


def test_a_flood_of_grpc_connections_that_say_nothing_leaves_http_its_own_and_ends(rig: Rig) -> None:
    with ExitStack() as exits:
        callers = [exits.enter_context(closing(rig.connect(rig.gateway.grpc))) for _ in range(FILES)]
        assert over_http(rig.gateway.http, "GET", "/v2", tls=rig.tls).status == 200
        assert rig.files() < FILES / 2
        give_up = time.monotonic() + IDLE_SECONDS + SLACK_SECONDS
        for caller in callers:
            with contextlib.suppress(ConnectionResetError):
                while caller.recv(65536):
                    pass
        assert time.monotonic() < give_up
    assert rig.answers_at_once()


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
def test_slow_callers_do_not_keep_a_gateway_from_stopping(tmp_path: Path, *, secured: bool) -> None:
    with a_rig(tmp_path, secured=secured) as rig, ExitStack() as exits:
        host, port = rig.gateway.http.split(":")
        for _ in range(20):  # over TLS: handshakes that are never begun
            exits.enter_context(socket.create_connection((host, int(port)), timeout=SLACK_SECONDS))
            for start in (HEAD, HEAD + b"content-length: 9\r\n\r\n0"):
                exits.enter_context(closing(rig.connect(rig.gateway.http))).sendall(start)
        assert rig.answers_at_once()
        process = rig.gateway.running.process
        started = time.monotonic()
        process.terminate()
        assert process.wait(DRAIN_SECONDS + SLACK_SECONDS) == 0
        assert time.monotonic() - started < DRAIN_SECONDS + SLACK_SECONDS / 2
