"""Heads: what was read once is read the same again, and nothing of one request is in another."""

import json
from collections.abc import Callable

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import InferwayError
from gateway.protocols import oip_heads
from gateway.protocols.oip_heads import Heads
from gateway.protocols.oip_request import OipBody, read_infer_body
from tests.fakes import a_contract, fake_contract

CONTRACT = a_contract()
JSON = fake_contract("m", {"x": ("FP32", [-1]), "n": ("INT8", [2])}, {"y": ("FP32", [1])})


def a_head(**more: object) -> bytes:
    tensor = {"name": "values", "datatype": "INT8", "shape": [1, 2], "parameters": {"binary_data_size": 2}}
    return orjson.dumps({"inputs": [tensor], **more})


def read(heads: Heads, head: bytes, data: bytes, length: bytes | None = None) -> object:
    return heads.read(head + data, str(len(head)).encode() if length is None else length, CONTRACT)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"parameters": {"binary_data_output": True, "gain": 2}},
        {"outputs": [{"name": "sum", "parameters": {"binary_data": True}}]},
        {"id": "7"},
    ],
    ids=["plain", "parameters", "outputs", "id"],
)
def test_a_known_head_is_read_as_an_unknown_one_with_the_data_of_its_own_request(
    more: dict[str, object],
) -> None:
    heads, head = Heads(), a_head(**more)
    for data in (b"\x01\x02", b"\x03\x04"):
        body = read(heads, head, data)
        assert body == read_infer_body(head + data, str(len(head)).encode(), CONTRACT)


@pytest.mark.parametrize("data", [b"\x01", b"\x01\x02\x03", b""])
def test_a_known_head_with_other_data_behind_it_is_refused_as_ever(data: bytes) -> None:
    heads, head = Heads(), a_head()
    read(heads, head, b"\x01\x02")
    with pytest.raises(InferwayError) as known:
        read(heads, head, data)
    with pytest.raises(InferwayError) as unknown:
        read_infer_body(head + data, str(len(head)).encode(), CONTRACT)
    assert str(known.value) == str(unknown.value)


@pytest.mark.parametrize("length", [b"9999", b"-1", b"x", b"12345678901234567890"])
def test_a_wrong_length_is_refused_as_ever(length: bytes) -> None:
    with pytest.raises(InferwayError, match="Inference-Header-Content-Length"):
        read(Heads(), a_head(), b"\x01\x02", length)


def test_values_in_the_json_and_ids_are_not_kept() -> None:
    heads = Heads()
    read(heads, a_head(id="7"), b"\x01\x02")
    tensor = {"name": "values", "datatype": "INT8", "shape": [1, 2], "data": [1, 2]}
    read(heads, orjson.dumps({"inputs": [tensor]}), b"")
    for _ in range(2):
        heads.read(orjson.dumps({"id": "7", "inputs": [tensor]}), None, CONTRACT)
    assert heads._known == {}


def a_body(x: str, n: str = "[1, -2]", **more: object) -> bytes:
    """JSON whose lists of numbers are these texts."""
    entries = (
        f'{{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": {x}}}',
        f'{{"name": "n", "data":{n}, "datatype": "INT8", "shape": [1, 2]}}',
    )
    others = "".join(f', "{name}": {orjson.dumps(value).decode()}' for name, value in more.items())
    return f'{{"inputs": [{entries[0]}, {entries[1]}]{others}}}'.encode()


def outcome(read: Callable[[], OipBody]) -> object:
    try:
        return read()
    except InferwayError as error:
        return type(error), str(error)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"parameters": {"binary_data_output": True, "gain": 2}},
        {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]},
        {"id": "7"},
    ],
    ids=["plain", "parameters", "outputs", "id"],
)
def test_json_that_is_known_is_read_as_unknown_json_with_the_numbers_of_its_own_request(
    more: dict[str, object],
) -> None:
    heads = Heads()
    for x, n in (("[1, 2.5]", "[1, 2]"), ("[1e-3,\n-0.0]", "[-128, 127]"), ("[0, 1e5]", "[0, 0]")):
        body = a_body(x, n, **more)
        assert heads.read(body, None, JSON) == read_infer_body(body, None, JSON)
    assert len(heads._known) == ("id" not in more)


NUMBERS = st.lists(
    st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3), st.just([1])),
    max_size=3,
)


@given(NUMBERS, NUMBERS)
@example([1, 2, 3], [1, 2])
@example([1, [2]], [1, 2])
@example([1, 2], [1, 200])
@example([1, 2], [1, 2.5])
@example([1e39, 2], [1, 2])
@example([1, 2], [True, 2])
@example(["]", "["], [1, 2])
def test_json_that_is_known_with_whatever_lists_comes_to_the_same_as_unknown_json(
    x: list[object], n: list[object]
) -> None:
    heads = Heads()
    for _ in range(2):
        heads.read(a_body("[1, 2]"), None, JSON)
    assert heads._known
    body = a_body(as_text(x), as_text(n))
    assert outcome(lambda: heads.read(body, None, JSON)) == outcome(lambda: read_infer_body(body, None, JSON))


def as_text(values: list[object]) -> str:
    return json.dumps(values)  # as clients in Python write it, NaN and Infinity included


def test_json_whose_lists_belong_to_something_else_is_not_kept() -> None:
    heads = Heads()
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [[1.5]]}
    integers = {"name": "n", "datatype": "INT8", "shape": [1, 2], "data": [1, 2]}
    body = orjson.dumps({"inputs": [tensor, integers]})
    for _ in range(3):
        assert heads.read(body, None, JSON) == read_infer_body(body, None, JSON)
    assert heads._known == {}


def test_json_of_one_model_is_not_known_for_another() -> None:
    heads = Heads()
    other = fake_contract("other", {"x": ("FP64", [-1]), "n": ("INT8", [2])}, {"y": ("FP32", [1])})
    body = a_body("[1, 2]")
    for _ in range(2):
        heads.read(body, None, JSON)
    with pytest.raises(InferwayError, match="FP64"):
        heads.read(body, None, other)


def test_no_more_are_kept_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oip_heads, "KNOWN", 3)
    heads = Heads()
    for number in range(10):
        read(heads, a_head(parameters={"gain": number}), b"\x01\x02")
        assert len(heads._known) <= 3
    long = a_head(parameters={"note": "x" * oip_heads.HEAD_BYTES})
    kept = len(heads._known)
    read(heads, long, b"\x01\x02")
    assert len(heads._known) == kept


def test_json_that_came_once_is_forgotten_when_much_other_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oip_heads, "KNOWN", 3)
    heads = Heads()
    for number in range(10):
        heads.read(a_body("[1, 2]", parameters={"gain": number}), None, JSON)
        assert len(heads._came) <= 3
    assert heads._known == {}


def test_a_long_list_is_read_by_itself_though_the_json_around_it_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = oip_heads.LONG_BYTES // 2
    body = a_body(as_text([1] * count)).replace(b"[1, 2],", b"[1, %d]," % count, 1)
    expected = read_infer_body(body, None, JSON)
    monkeypatch.setattr(oip_heads, "read_infer_body", None)
    assert Heads().read(body, None, JSON) == expected
    assert Heads().read(body, str(len(body)).encode(), JSON) == expected
