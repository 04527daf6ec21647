"""One HTTP call: a bounded body, a deadline, a measurement, and an answer whatever happens."""

import asyncio
import gzip
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.catalog import Catalog
from gateway.errors import ModelNotFound, Unavailable
from gateway.inference import InferResponse
from gateway.metrics import Metrics
from gateway.protocols import http
from gateway.protocols.edge import Edge
from gateway.protocols.http import HttpCall, HttpEndpoint, Routes
from gateway.protocols.http_reply import WHOLE_REPLY, HttpReply, answer, send_reply
from gateway.protocols.problems import error_object
from gateway.stages.measured import Measured
from tests.fakes import FakeInfer, a_contract

LIMIT = 1000


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


class Rig:
    """An HttpEndpoint whose handler answers with `reply` or the body that it got, or fails.

    Attributes:
        calls: what the handler got.
        left: what was not read of the chunks sent.
    """

    def __init__(
        self,
        failure: BaseException | None = None,
        *,
        measures: bool = True,
        reply: HttpReply | None = None,
    ) -> None:
        self.calls: list[HttpCall] = []
        self.left: list[bytes] = []
        self.registry = CollectorRegistry()
        catalog = Catalog({"adder": a_contract()})
        edge = Edge(
            infer=FakeInfer(),
            catalog=catalog,
            is_ready=lambda _model, _version: True,
            measured=Measured(Metrics(self.registry), catalog),
            max_request_bytes=LIMIT,
        )

        async def handler(call: HttpCall) -> HttpReply:
            """What it does."""
            self.calls.append(call)
            if failure is not None:
                raise failure
            return reply or HttpReply(call.body, content_type=b"application/octet-stream")

        self.edge = edge
        self.endpoint = HttpEndpoint(
            handler, edge, protocol="oip_http", error_body=error_object, measures=measures
        )

    async def call(
        self,
        *chunks: bytes,
        leaves: bool = False,
        headers: Iterable[tuple[bytes, bytes]] = (),
        path: dict[str, str] | None = None,
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        """Send chunks as a server would; a body that is complete is followed by silence."""
        self.left = list(chunks)
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if self.left:
                chunk = self.left.pop(0)
                return {"type": "http.request", "body": chunk, "more_body": bool(self.left) or leaves}
            if not leaves:
                raise AssertionError("read on after the body's end: a server would wait here for ever")
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "path": "/x",
            "query_string": b"a=b",
            "headers": list(headers),
            "path_params": {"model": "adder"} if path is None else path,
        }
        await self.endpoint(scope, receive, send)
        start, body = sent
        return start["status"], dict(start["headers"]), body["body"]

    async def send(self, body: bytes, **headers: str) -> tuple[int, bytes]:
        """Send one body with its length; return status and body of the reply."""
        pairs = [
            (name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()
        ]
        pairs.append((b"content-length", str(len(body)).encode()))
        status, _, reply = await self.call(body, headers=pairs)
        return status, reply

    def counted(self) -> dict[str, float]:
        return {
            sample.labels["outcome"]: sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "gateway_request_duration_seconds_count"
        }


async def test_the_handler_gets_body_headers_path_and_query() -> None:
    rig = Rig()
    status, headers, body = await rig.call(b"ab", b"cd", headers=[(b"x-a", b"1"), (b"x-a", b"2")])
    (call,) = rig.calls
    assert (status, body) == (200, b"abcd")
    assert (call.body, call.path, call.query) == (b"abcd", {"model": "adder"}, b"a=b")
    assert (call.header(b"x-a"), call.header(b"x-b")) == ("2", "")
    assert (headers[b"content-length"], headers[b"content-type"]) == (b"4", b"application/octet-stream")


async def test_a_body_of_just_the_limit_is_taken() -> None:
    assert await Rig().send(bytes(LIMIT)) == (200, bytes(LIMIT))


async def test_a_body_over_the_limit_by_its_content_length_is_refused_before_it_is_read() -> None:
    rig = Rig()
    status, body = await rig.send(bytes(LIMIT + 1))
    assert (status, rig.left) == (413, [bytes(LIMIT + 1)])
    assert orjson.loads(body) == {"error": f"request body is larger than the limit of {LIMIT} bytes"}
    assert rig.calls == []
    assert rig.counted() == {"too_large": 1}


@pytest.mark.parametrize(
    ("sizes", "unread"), [([LIMIT, 1], 0), ([LIMIT + 1], 0), ([400, 400, 400], 0), ([400] * 5, 2)]
)
async def test_a_body_over_the_limit_by_its_chunks_is_refused_when_it_gets_there(
    sizes: list[int], unread: int
) -> None:
    rig = Rig()
    status, _, _ = await rig.call(*(bytes(size) for size in sizes))
    assert (status, rig.calls, len(rig.left)) == (413, [], unread)


async def test_a_content_length_that_lies_low_does_not_get_past_the_limit() -> None:
    rig = Rig()
    status, _, _ = await rig.call(bytes(LIMIT), bytes(LIMIT), headers=[(b"content-length", b"5")])
    assert (status, rig.calls) == (413, [])


async def test_a_caller_that_asks_whether_to_send_too_much_is_not_told_to() -> None:
    rig = Rig()
    headers = [(b"content-length", str(LIMIT + 1).encode()), (b"expect", b"100-continue")]
    status, _, _ = await rig.call(b"first look", headers=headers)
    assert (status, rig.left) == (413, [b"first look"])


@pytest.mark.parametrize("header", [[(b"x-request-timeout-ms", b"30")], []], ids=["callers", "models"])
async def test_a_body_that_is_not_complete_by_the_deadline_is_given_up(
    header: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig()
    monkeypatch.setattr(Edge, "deadline", lambda _edge, _model, asked, arrived: arrived + (asked or 0.02))
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not sent:
            sent.append(b"half")
            return {"type": "http.request", "body": b"half", "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/x", "query_string": b"", "headers": header, "path_params": {}}
    async with asyncio.timeout(2):
        await rig.endpoint(scope, receive, send)
    assert sent[1]["status"] == 504
    assert b"the deadline passed before the body was complete" in sent[2]["body"]
    assert rig.calls == []


async def test_the_deadline_counts_from_the_headers_and_not_from_the_bodys_end() -> None:
    rig = Rig()
    before = rig.edge.clock()
    await rig.send(b"", x_request_timeout_ms="1000")
    assert before <= rig.calls[0].arrived <= rig.edge.clock()


async def test_bodies_are_expanded_one_at_a_time_while_others_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    at_once = [0, 0]  # now, and at most
    may_end = threading.Event()

    def slow(body: bytes, _encoding: str, _limit: int) -> bytes:
        at_once[0] += 1
        at_once[1] = max(at_once)
        may_end.wait(2)
        at_once[0] -= 1
        return body

    monkeypatch.setattr(http, "expand", slow)
    packed = [asyncio.create_task(rig.send(b"x", content_encoding="gzip")) for _ in range(3)]
    assert await rig.send(b"plain") == (200, b"plain")
    assert not any(task.done() for task in packed)
    may_end.set()
    assert [await task for task in packed] == [(200, b"x")] * 3
    assert at_once[1] == 1


async def test_a_caller_that_leaves_gives_its_turn_to_expand_on_only_when_the_work_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    at_work: list[bytes] = []
    may_end = threading.Event()

    def slow(body: bytes, _encoding: str, _limit: int) -> bytes:
        at_work.append(body)
        may_end.wait(2)
        return body

    monkeypatch.setattr(http, "expand", slow)
    for body in (b"a", b"b", b"c"):
        status, _ = await rig.send(body, content_encoding="gzip", x_request_timeout_ms="30")
        assert status == 504
    assert at_work == [b"a"]
    may_end.set()
    assert await rig.send(b"d", content_encoding="gzip") == (200, b"d")
    assert at_work == [b"a", b"d"]


@pytest.mark.parametrize("chunks", [(), (b"half",)])
async def test_a_caller_that_leaves_in_the_middle_gets_no_inference(chunks: tuple[bytes, ...]) -> None:
    rig = Rig()
    status, _, _ = await rig.call(*chunks, leaves=True)
    assert (status, rig.calls) == (400, [])


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("GZIP ", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)],
    ids=["gzip", "upper case", "deflate in zlib's format", "raw deflate"],
)
async def test_a_compressed_body_is_expanded(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    assert await Rig().send(pack(b"hello" * 20), content_encoding=encoding) == (200, b"hello" * 20)


@pytest.mark.parametrize("encoding", ["", "identity"])
async def test_a_body_that_says_it_is_not_compressed_is_taken_as_it_is(encoding: str) -> None:
    assert await Rig().send(b"hello", content_encoding=encoding) == (200, b"hello")


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate])
async def test_a_body_that_expands_to_just_the_limit_is_taken_and_one_byte_more_is_not(
    pack: Callable[[bytes], bytes],
) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    assert (await Rig().send(pack(bytes(LIMIT)), content_encoding=encoding))[0] == 200
    rig = Rig()
    assert (await rig.send(pack(bytes(LIMIT + 1)), content_encoding=encoding))[0] == 413
    assert rig.calls == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_is_refused_without_being_expanded(encoding: str) -> None:
    size = 256 * LIMIT
    bomb = (gzip.compress if encoding == "gzip" else zlib.compress)(bytes(size))
    assert len(bomb) < LIMIT
    rig = Rig()
    tracemalloc.start()
    status, _ = await rig.send(bomb, content_encoding=encoding)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (status, rig.calls) == (413, [])
    assert peak_bytes < size / 2


@pytest.mark.parametrize(
    ("encoding", "body", "text"),
    [
        ("gzip", gzip.compress(b"hello")[:-1], "the gzip body is cut short"),
        ("gzip", b"", "the gzip body is cut short"),
        ("deflate", zlib.compress(b"hello")[:-1], "the deflate body is cut short"),
        ("gzip", b"hello", "the body is not valid gzip"),
        ("gzip", zlib.compress(b"hello"), "the body is not valid gzip"),
        ("deflate", b"\xff\xff\xff", "the body is not valid deflate"),
        ("gzip", gzip.compress(b"hello")[:-5] + b"\0\0\0\0\0", "the body is not valid gzip"),
        ("gzip", gzip.compress(b"hello") + b"more", "4 bytes follow the end of the gzip body"),
        ("gzip", gzip.compress(b"a") * 2, "bytes follow the end of the gzip body"),
        ("deflate", raw_deflate(b"hello") + b"more", "4 bytes follow the end of the deflate body"),
        ("br", b"hello", "Content-Encoding: expected gzip, deflate or identity, got 'br'"),
        ("gzip, gzip", b"hello", "Content-Encoding: expected gzip, deflate or identity, got 'gzip, gzip'"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
async def test_a_body_that_cannot_be_expanded_is_refused_with_the_reason(
    encoding: str, body: bytes, text: str
) -> None:
    rig = Rig()
    status, reply = await rig.send(body, content_encoding=encoding)
    assert (status, rig.calls) == (400, [])
    assert text in orjson.loads(reply)["error"]


@pytest.mark.parametrize(("value", "seconds"), [("250", 0.25), ("0.5", 0.0005), ("1e3", 1.0)])
async def test_a_timeout_asked_for_is_in_milliseconds(value: str, seconds: float) -> None:
    rig = Rig()
    await rig.send(b"", x_request_timeout_ms=value)
    assert rig.calls[0].timeout_seconds == seconds


async def test_without_a_timeout_asked_for_there_is_none() -> None:
    rig = Rig()
    await rig.send(b"")
    assert rig.calls[0].timeout_seconds is None


@pytest.mark.parametrize("value", ["", "0", "-1", "soon", "nan", "inf", "1e999", "\xff", "1,2"])
async def test_a_timeout_that_is_no_positive_number_is_refused(value: str) -> None:
    rig = Rig()
    status, reply = await rig.send(b"", x_request_timeout_ms=value)
    assert (status, rig.calls) == (400, [])
    assert "X-Request-Timeout-Ms: expected a positive number of milliseconds, got" in reply.decode()


async def test_an_expected_failure_is_told_in_the_protocols_words() -> None:
    status, reply = await Rig(ModelNotFound("m")).send(b"")
    assert (status, orjson.loads(reply)) == (404, {"error": "model 'm' is not found"})


async def test_unavailable_says_when_to_come_back() -> None:
    status, headers, _ = await Rig(Unavailable("x", retry_after_seconds=3)).call(b"")
    assert (status, headers[b"retry-after"]) == (503, b"3")


async def test_what_was_not_expected_is_a_500_that_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    rig = Rig(ZeroDivisionError("password is hunter2"))
    status, reply = await rig.send(b"")
    assert (status, orjson.loads(reply)) == (500, {"error": "internal error"})
    assert rig.counted() == {"internal": 1}
    assert "request_failed" in capsys.readouterr().out


async def test_a_cancelled_call_stays_cancelled_and_is_counted() -> None:
    rig = Rig(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await rig.send(b"")
    assert rig.counted() == {"cancelled": 1}


async def test_what_infers_is_measured_and_what_does_not_is_not() -> None:
    inferring, looking = Rig(), Rig(measures=False)
    await inferring.send(b"")
    await looking.send(b"")
    assert (inferring.counted(), looking.counted()) == ({"ok": 1}, {})


async def test_the_measurement_knows_model_and_version_before_the_body_is_there() -> None:
    rig = Rig()
    await rig.call(bytes(LIMIT + 1), path={"model": "adder", "version": "2"})
    labels = {"model": "adder", "version": "2", "protocol": "oip_http", "outcome": "too_large"}
    assert rig.registry.get_sample_value("gateway_request_duration_seconds_count", labels) == 1


@pytest.mark.parametrize(("accept", "coding"), [(b"gzip, deflate", b"gzip"), (b"br", None), (None, None)])
async def test_a_reply_is_compressed_for_a_caller_who_asks(
    accept: bytes | None, coding: bytes | None
) -> None:
    rig = Rig(reply=HttpReply(b"0" * 5000, headers={"x-fact": "kept"}))
    headers = [(b"accept-encoding", accept)] if accept else []
    status, sent, body = await rig.call(b"", headers=headers)
    assert (status, sent.get(b"content-encoding"), sent[b"x-fact"]) == (200, coding, b"kept")
    assert sent[b"content-length"] == str(len(body)).encode()
    assert (gzip.decompress(body) if coding else body) == b"0" * 5000


def test_an_answer_says_what_gave_it() -> None:
    response = InferResponse("adder", "2", (), variant="int8", backend="triton", cache="redis")
    assert answer(response, b"{}").headers == {
        "x-inferway-cache": "redis",
        "x-inferway-variant": "int8",
        "x-inferway-version": "2",
        "x-inferway-backend": "triton",
    }


async def test_a_route_takes_the_methods_that_are_listed() -> None:
    async def handler(call: HttpCall) -> HttpReply:
        """What it does."""
        return HttpReply(call.body)

    routes = Routes(Rig().edge, "oip_http", error_object)
    routes.add("POST,PUT", "/predictions/{model}", handler, measures=True)
    (route,) = routes.routes
    assert route.methods == {"POST", "PUT"}
    assert route.endpoint.__doc__ == "What it does."


@pytest.mark.parametrize(("method", "is_whole"), [("POST", True), ("HEAD", False)])
async def test_a_reply_goes_in_one_step_where_it_has_a_body(method: str, *, is_whole: bool) -> None:
    whole: list[tuple[bytes, bytes]] = []
    messages: list[Any] = []

    def send_whole(head: bytes, body: bytes) -> bool:
        whole.append((head, body))
        return True

    async def send(message: Any) -> None:
        messages.append(message)

    scope = {"method": method, WHOLE_REPLY: send_whole}
    await send_reply(scope, send, HttpReply(b"{}", headers={"x-fact": "kept"}), "7")
    head = b"content-type: application/json\r\ncontent-length: 2\r\nx-fact: kept\r\nx-request-id: 7\r\n"
    assert whole == ([(head, b"{}")] if is_whole else [])
    assert len(messages) == (0 if is_whole else 2)
