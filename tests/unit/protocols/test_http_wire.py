"""The wire form: equal only for calls that one answer is right for."""

import pytest

from gateway.protocols.http_wire import Wire, wire_form
from gateway.protocols.wire_content import BINARY_BYTES, SHORT_BYTES

ROUTE = "/v2/models/{model}/infer"
LENGTH = b"inference-header-content-length"


def form(
    body: bytes = b"body",
    *,
    route: str = ROUTE,
    path: dict[str, str] | None = None,
    headers: dict[bytes, bytes] | None = None,
    query: bytes = b"",
) -> Wire | None:
    return wire_form(route, path or {"model": "m"}, headers or {}, query, body)


def test_what_an_answer_does_not_depend_on_is_not_in_it() -> None:
    headers = {b"authorization": b"Bearer x", b"x-request-timeout-ms": b"5", b"x-inferway-sticky": b"me"}
    assert form(headers=headers) == form()


@pytest.mark.parametrize("size", [0, 1, SHORT_BYTES, SHORT_BYTES + 1])
def test_all_that_an_answer_depends_on_is_in_it(size: int) -> None:
    body = b"b" * size
    forms = [
        form(body),
        form(body + b"c"),
        form(body, route="/v1/models/{model}:predict"),
        form(body, path={"model": "n"}),
        form(body, path={"model": "m", "version": "1"}),
        *(
            form(body, headers={name: value})
            for name in (b"x-inferway-variant", b"content-type", LENGTH)
            for value in (b"", b"1", b"int8")
        ),
    ]
    assert len(set(forms)) == len(forms)


def test_a_body_never_stands_for_the_one_whose_digest_it_is() -> None:
    long = form(bytes(SHORT_BYTES + 1))
    assert long is not None
    assert form(long.content) != long


@pytest.mark.parametrize(
    "call",
    [
        form(query=b"variant=int8"),
        form(headers={b"x-request-priority": b"1"}),
        form(path={"model": "m", "label": "stable"}),
        form(bytes(BINARY_BYTES + 1), headers={LENGTH: b"10"}),
    ],
    ids=["a query", "a priority, which may be malformed", "a label, which may move", "a large binary body"],
)
def test_what_had_better_be_read_has_none(call: Wire | None) -> None:
    assert call is None


def test_a_large_body_of_json_has_one() -> None:
    assert form(bytes(BINARY_BYTES + 1)) is not None
