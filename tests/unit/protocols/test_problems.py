"""How each protocol says that something failed: complete tables, and no word too many."""

from collections.abc import Mapping

import grpc
import orjson
import pytest

from gateway.errors import (
    BodyTooLarge,
    Code,
    EndpointFailed,
    InferwayError,
    InvalidTensor,
    ModelNotFound,
    Overloaded,
    Unavailable,
    VersionNotFound,
)
from gateway.protocols.problems import (
    GRPC_STATUS,
    HTTP_STATUS,
    TORCHSERVE_TYPE,
    error_code,
    error_object,
    error_text,
    failure_headers,
    grpc_trailers,
    http_status,
    torchserve_object,
)

SECRET = ZeroDivisionError("password is hunter2")


@pytest.mark.parametrize("table", [HTTP_STATUS, GRPC_STATUS, TORCHSERVE_TYPE])
def test_every_table_knows_every_code(table: Mapping[Code, object]) -> None:
    assert set(table) == set(Code)


def test_the_callers_faults_are_400s_but_for_what_is_not_served() -> None:
    keys = {Code.UNAUTHENTICATED, Code.FORBIDDEN, Code.QUOTA_EXCEEDED}
    callers = {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.TOO_LARGE} | keys
    assert {code for code, status in HTTP_STATUS.items() if status < 500} == callers
    assert HTTP_STATUS[Code.UNSUPPORTED] == 501


def test_every_grpc_status_is_that_of_one_code_but_for_what_is_exhausted_and_none_is_ok() -> None:
    assert GRPC_STATUS[Code.TOO_LARGE] is GRPC_STATUS[Code.QUOTA_EXCEEDED]  # as gRPC's own servers have it
    assert len(set(GRPC_STATUS.values())) == len(Code) - 1
    assert grpc.StatusCode.OK not in GRPC_STATUS.values()


def test_what_was_not_expected_is_internal_and_tells_nothing() -> None:
    assert (error_code(SECRET), error_text(SECRET)) == (Code.INTERNAL, "internal error")
    assert http_status(SECRET) == 500
    assert orjson.loads(error_object(SECRET)) == {"error": "internal error"}
    assert b"hunter2" not in torchserve_object(SECRET)


def test_a_text_is_cut_where_a_grpc_status_would_not_fit_into_its_headers() -> None:
    error = ModelNotFound("m" * 100_000)
    for text in (error_text(error), orjson.loads(torchserve_object(error))["message"]):
        assert text.startswith(("model 'mmm", "Model not found: mmm"))
        assert len(text) < 600
        assert "characters more" in text


def test_what_was_expected_is_told_in_its_own_words() -> None:
    error = InvalidTensor("image", expected="FP32", got="INT8")
    assert orjson.loads(error_object(error)) == {"error": "tensor 'image': expected FP32, got INT8"}


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.1, "2"), (30.0, "30")]
)
def test_unavailable_says_after_how_many_whole_seconds_to_come_back(seconds: float, header: str) -> None:
    assert failure_headers(Unavailable("x", retry_after_seconds=seconds)) == {"retry-after": header}


def test_what_was_shed_tells_every_protocol_when_to_come_back_and_grpc_in_its_own_way_too() -> None:
    shed = Overloaded("busy", retry_after_seconds=2.1)
    assert (http_status(shed), failure_headers(shed)) == (503, {"retry-after": "3"})
    assert grpc_trailers(shed) == {"retry-after": "3", "grpc-retry-pushback-ms": "3000"}
    assert orjson.loads(error_object(shed)) == {"error": "busy"}
    expected = {"code": 503, "type": "ServiceUnavailableException", "message": "busy"}
    assert orjson.loads(torchserve_object(shed)) == expected
    assert grpc_trailers(Unavailable("x")) == failure_headers(Unavailable("x"))


def test_every_503_has_a_retry_after() -> None:
    assert failure_headers(EndpointFailed("x")) == {"retry-after": "1"}


@pytest.mark.parametrize("error", [ModelNotFound("m"), BodyTooLarge(1), InferwayError("x"), SECRET])
def test_nothing_but_a_503_has_a_retry_after(error: Exception) -> None:
    assert failure_headers(error) == {}


@pytest.mark.parametrize(
    ("error", "body"),
    [
        (
            ModelNotFound("m"),
            {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: m"},
        ),
        (
            VersionNotFound("m", "version", "9", ["1"]),
            {
                "code": 404,
                "type": "ModelVersionNotFoundException",
                "message": "model 'm' has no version '9' (it has: 1)",
            },
        ),
        (
            Unavailable("nobody is left"),
            {"code": 503, "type": "ServiceUnavailableException", "message": "nobody is left"},
        ),
        (SECRET, {"code": 500, "type": "InternalServerException", "message": "internal error"}),
    ],
)
def test_torchserve_clients_get_code_type_and_message(error: Exception, body: dict[str, object]) -> None:
    assert orjson.loads(torchserve_object(error)) == body
