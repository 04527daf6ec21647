"""Log lines: JSON, the ids of the request and of its trace, one line a failed request, no payloads."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from starlette.applications import Starlette

from gateway.errors import EndpointFailed, Unavailable
from gateway.logs import configure
from gateway.protocols import oip_http
from gateway.protocols.edge import Edge
from gateway.request_id import bind_request_id
from gateway.settings import LogSettings
from gateway.tracing import Tracing
from tests.fakes import Answer, FakeInfer, a_contract, fake_edge

PAYLOAD = "hunter2"
TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADERS = {"x-request-id": "one", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
TENSOR = {"name": "values", "datatype": "INT8", "shape": [1, 2], "data": [1, 2]}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What `configure` sets up in the whole process is undone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


class Rig:
    """OIP REST over a fake backend, and what a gateway with these settings logs of it.

    Args:
        capsys: has the lines.
        answer: of the backend.
        level: of the log.
        traced: whether tracing is on.
    """

    def __init__(
        self,
        capsys: pytest.CaptureFixture[str],
        *answer: Answer,
        level: str = "info",
        traced: bool = False,
    ) -> None:
        self._capsys = capsys
        configure(LogSettings.model_validate({"level": level}), traced=traced)
        structlog.configure(cache_logger_on_first_use=False)  # other tests have loggers of their own
        tracing = Tracing(TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)) if traced else None
        self.edge: Edge = fake_edge(FakeInfer(*answer), a_contract(), tracing=tracing)

    async def send(self, content: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What one request leaves in the log."""
        app = Starlette(routes=list(oip_http.routes(self.edge)))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as client:
            await client.post("/v2/models/adder/infer", json=content, headers=HEADERS)
        return self.lines()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]


async def test_a_failed_request_is_one_line_with_all_that_helps_to_find_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (line,) = await Rig(capsys, Unavailable(f"it saw {PAYLOAD}"), traced=True).send({"inputs": [TENSOR]})
    assert line.pop("duration_seconds") >= 0
    assert line.pop("timestamp")
    assert int(line.pop("span_id"), 16)
    assert line == {
        "event": "request_failed",
        "level": "warning",
        "model": "adder",
        "version": "",
        "variant": "",
        "protocol": "oip_http",
        "outcome": "unavailable",
        "cache": "",
        "backend": "",
        "error": "Unavailable",
        "request_id": "one",
        "trace_id": TRACE,
    }


async def test_without_tracing_there_is_no_trace_id(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = await Rig(capsys, Unavailable("x")).send({"inputs": [TENSOR]})
    assert line["request_id"] == "one"
    assert not {"trace_id", "span_id"} & line.keys()


@pytest.mark.parametrize("content", [{"inputs": [TENSOR]}, {"inputs": []}])
async def test_what_was_answered_is_told_at_debug_level_only(
    capsys: pytest.CaptureFixture[str], content: Mapping[str, Any]
) -> None:
    assert await Rig(capsys).send(content) == []
    (line,) = await Rig(capsys, level="debug").send(content)
    assert (line["event"], line["level"], line["request_id"]) == ("request_finished", "debug", "one")
    assert line["outcome"] == ("ok" if content["inputs"] else "invalid_argument")


async def test_a_fault_is_one_line_with_its_place_and_without_its_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def breaks(_: Any) -> Any:
        try:
            int(PAYLOAD)
        except ValueError as error:
            raise ZeroDivisionError(PAYLOAD) from error

    (line,) = await Rig(capsys, breaks).send({"inputs": [TENSOR]})
    assert (line["event"], line["outcome"], line["error"]) == (
        "request_failed",
        "internal",
        "ZeroDivisionError",
    )
    told: str = line["exception"]
    assert told.index("ValueError") < told.index("\nZeroDivisionError")
    assert "in breaks" in told
    assert PAYLOAD not in told


CONTENTS: Sequence[Mapping[str, Any]] = (
    {"inputs": [{**TENSOR, "data": [PAYLOAD, PAYLOAD]}]},
    {"inputs": [{**TENSOR, "name": PAYLOAD}]},
    {"inputs": [TENSOR], "id": PAYLOAD, "parameters": {PAYLOAD: PAYLOAD}},
    {PAYLOAD: PAYLOAD},
)


@pytest.mark.parametrize("answer", [lambda _: 1 / 0, EndpointFailed(PAYLOAD), Unavailable(PAYLOAD)])
async def test_no_line_has_the_payload_whatever_happens(
    capsys: pytest.CaptureFixture[str], answer: Answer
) -> None:
    rig = Rig(capsys, answer, level="debug", traced=True)
    for content in CONTENTS:
        lines = await rig.send(content)
        assert lines
        assert PAYLOAD not in json.dumps(lines)


def test_outside_of_a_request_an_exception_keeps_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    rig = Rig(capsys)
    structlog.get_logger().error("endpoint_check_failed", exc_info=ValueError("the file is no model"))
    (line,) = rig.lines()
    assert line["exception"].endswith("ValueError: the file is no model")
    assert "request_id" not in line


async def test_what_a_library_logs_has_the_id_too(capsys: pytest.CaptureFixture[str]) -> None:
    rig = Rig(capsys)
    bind_request_id("one")
    logging.getLogger("library").error("it failed", exc_info=ValueError(PAYLOAD))
    (line,) = rig.lines()
    assert (line["event"], line["request_id"]) == ("it failed", "one")
    assert line["exception"].endswith("ValueError")
