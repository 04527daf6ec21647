"""Long lists of numbers are read as the other way reads them; what is wrong in them is left to that."""

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import InferwayError
from gateway.protocols.json_numbers import MOST_LISTS, SKELETON_BYTES, cut_out
from gateway.protocols.oip_heads import Heads
from gateway.protocols.oip_request import OipBody, read_infer_body
from tests.fakes import fake_contract

INTEGERS = {f"{sign}INT{bits}": (sign, bits) for sign in ("", "U") for bits in (8, 16, 32, 64)}
DATATYPES = ["FP32", "FP64", *INTEGERS]

ONE = {name: fake_contract("m", {"x": (name, [-1])}, {"y": ("FP32", [1])}) for name in DATATYPES}
FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**64 - 1), st.just(-0.0)
)


def values_of(datatype: str) -> st.SearchStrategy[list[Any]]:
    if datatype not in INTEGERS:
        return st.lists(FLOATS, min_size=1, max_size=40)
    sign, bits = INTEGERS[datatype]
    least, most = (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.lists(st.integers(least, most), min_size=1, max_size=40)


def an_input(datatype: str, data: object, shape: object = None, **more: object) -> dict[str, object]:
    shape = [1, len(data)] if shape is None and isinstance(data, list) else shape
    return {"name": "x", "datatype": datatype, "shape": shape, "data": data, **more}


def outcome(read: Callable[[], OipBody]) -> object:
    try:
        return read()
    except InferwayError as error:
        return type(error), str(error)


def parse_infer_body(text: bytes) -> dict[str, Any] | None:
    cut = cut_out(text)
    return None if cut is None else cut.content()


def both_ways(text: bytes, datatype: str) -> tuple[object, object]:
    """What comes of a body when its numbers are cut out of it, and when they are not."""
    heads, contract = Heads(), ONE[datatype]
    first, again, known = [outcome(lambda: heads.read(text, None, contract)) for _ in range(3)]
    assert first == again == known
    return known, outcome(lambda: read_infer_body(text, None, contract))


@given(st.data(), st.sampled_from(DATATYPES))
def test_every_datatype_is_read_as_the_other_way_reads_it(data: st.DataObject, datatype: str) -> None:
    entry = an_input(datatype, data.draw(values_of(datatype)))
    text = json.dumps(
        {
            "id": "7",
            "inputs": [entry],
            "outputs": [{"name": "y"}],
            "parameters": {"gain": 2, "binary_data_output": True},
        }
    ).encode()
    assert parse_infer_body(text) is not None
    numbers, lists = both_ways(text, datatype)
    assert isinstance(numbers, OipBody)
    assert numbers == lists


def test_several_inputs_are_read_each_with_its_own_datatype() -> None:
    entries = [an_input(name, [1, 2, 3]) | {"name": name} for name in DATATYPES]
    text = orjson.dumps({"inputs": entries})
    content = parse_infer_body(text)
    assert content is not None
    sizes = [len(entry["data"]) for entry in content["inputs"]]
    assert sizes == [12, 24, 3, 6, 12, 24, 3, 6, 12, 24]


@given(
    st.recursive(
        st.one_of(FLOATS, st.booleans(), st.none(), st.text(max_size=3)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=8,
    ),
    st.sampled_from(DATATYPES),
)
@example([1, [2], 3], "FP32")
@example([[1, 2], [3, 4]], "FP32")
@example([1, True], "FP32")
@example([1.5], "INT8")
@example([300], "INT8")
@example([-1], "UINT64")
@example([2**64], "FP64")
@example([1e39], "FP32")
@example([], "FP32")
def test_any_data_whatever_comes_to_the_same_either_way(data: object, datatype: str) -> None:
    text = as_json({"inputs": [an_input(datatype, data)]})
    numbers, lists = both_ways(text, datatype)
    assert numbers == lists


def as_json(content: object) -> bytes:
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'"x"',
        b"\xff\xfe",
        b'{"inputs": 7}',
        b'{"inputs": [7]}',
        b'{"inputs": [[7]]}',
        b'{"inputs": [{"name": "x"}]}',
        b'{"inputs": [{"name": "x", "datatype": [], "shape": [1, 1], "data": [1]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": {"a": 1}}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [NaN]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1e400]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [01]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]} x',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1], "data": [2]}]}',
        b'{"inputs": [{"name": "\\ud800", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}',
        b'{"parameters": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b', "inputs": []}',
        b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1',
        b'{"inputs":[{"name": "x", "datatype":"FP32", "shape": [1, 1], "a\\"data": [1], "d\\u0061ta": [2]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1], "d\\u0061ta": [2]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}], "a": {"data": [1]}}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1]}], "a": {"data": [1]}}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [[1]]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": ["]"]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}], "inputs": []}',
    ],
)
def test_what_is_no_such_body_is_left_to_the_other_way(text: bytes) -> None:
    assert parse_infer_body(text) is None
    numbers, lists = both_ways(text, "FP32")
    assert numbers == lists


def test_parameters_as_deep_as_json_may_be_are_read_the_same() -> None:
    deep = b'{"parameters": ' + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b', "inputs": ['
    text = deep + b'{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}'
    numbers, lists = both_ways(text, "FP32")
    assert numbers == lists


@pytest.mark.parametrize(
    "text",
    [
        b'{"inputs": [{"name": "[", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}',
        b'{"inputs": [], "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}',
        b'{"inputs": [{"name": "x", "data"\n\t:\r [1],"data": [2], "datatype": "FP32", "shape": [1, 1]}]}',
        b'{"inputs": [{"data":[ 1 ],"name": "x", "datatype": "FP32", "shape": [1, 1]}]}',
        b'{"id": "\\"data\\": [3]", "inputs": [{"data":[1],"name":"x","datatype":"FP32","shape":[1,1]}]}',
    ],
)
def test_lists_are_found_wherever_json_may_have_them(text: bytes) -> None:
    numbers, lists = both_ways(text, "FP32")
    assert numbers == lists


def test_what_would_be_long_without_its_lists_is_not_read_twice() -> None:
    entry = an_input("FP32", [1])
    assert cut_out(orjson.dumps({"inputs": [entry], "note": "x" * SKELETON_BYTES})) is None
    assert cut_out(orjson.dumps({"note": "x" * SKELETON_BYTES, "inputs": [entry]})) is None
    assert cut_out(orjson.dumps({"inputs": [entry] * (MOST_LISTS + 1)})) is None
    assert cut_out(orjson.dumps({"inputs": [entry] * MOST_LISTS})) is not None
    assert cut_out(b'{"a": ["data"' + b', "data"' * SKELETON_BYTES + b'], "data": [1]}') is None
