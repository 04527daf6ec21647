"""Heads: what was read once is read the same again, and nothing of one request is in another."""

import orjson
import pytest

from gateway.errors import InferwayError
from gateway.protocols import oip_heads
from gateway.protocols.oip_heads import Heads
from gateway.protocols.oip_request import read_infer_body
from tests.fakes import a_contract

CONTRACT = a_contract()


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
    assert heads._known == {}


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
