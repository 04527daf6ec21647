"""The frame: what went in comes out, and nothing else is taken for a frame."""

import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inference import ITEM_BYTES, Tensor
from gateway.tensor_frame import FrameError, pack, unpack

META: dict[str, Any] = {"model": "m", "parameters": {"gain": 0.5}}


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    datatype = draw(st.sampled_from([*ITEM_BYTES, "BYTES"]))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    name = draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5))
    if datatype == "BYTES":
        count = Tensor(name, datatype, shape, b"").elements
        return Tensor.of_bytes(name, shape, draw(st.lists(st.binary(max_size=3), min_size=count)))
    size = Tensor(name, datatype, shape, b"").elements * ITEM_BYTES[datatype]
    return Tensor(name, datatype, shape, draw(st.binary(min_size=size, max_size=size)))


def bare(header: Any, data: bytes = b"") -> bytes:
    encoded = orjson.dumps(header)
    return struct.pack("<I", len(encoded)) + encoded + data


@given(st.lists(tensors(), max_size=4))
def test_header_and_tensors_come_back_as_they_went_in(sent: list[Tensor]) -> None:
    meta, received = unpack(pack(META, sent))
    assert meta == META
    assert list(received) == sent


@given(st.lists(tensors(), max_size=3), st.data())
def test_a_frame_cut_short_is_no_frame(sent: list[Tensor], data: st.DataObject) -> None:
    frame = pack(META, sent)
    cut = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(FrameError):
        unpack(frame[:cut])


@given(st.lists(tensors(), max_size=3), st.binary(min_size=1, max_size=5))
def test_a_frame_with_more_behind_it_is_no_frame(sent: list[Tensor], more: bytes) -> None:
    with pytest.raises(FrameError, match="the header promises"):
        unpack(pack(META, sent) + more)


@given(st.binary(max_size=60))
def test_any_other_bytes_are_no_frame(data: bytes) -> None:
    with pytest.raises(FrameError):
        unpack(data)


@pytest.mark.parametrize(
    "header",
    [
        None,
        [],
        {},
        {"outputs": None},
        {"outputs": [1]},
        {"outputs": [{"name": "t", "datatype": "INT8"}]},
        {"outputs": [{"name": "t", "datatype": "INT8", "shape": 1}]},
        {"outputs": [{"name": "t", "datatype": "FP99", "shape": [1]}]},
        {"outputs": [{"name": "t", "datatype": [], "shape": [1]}]},
        {"outputs": [{"name": "t", "datatype": "INT8", "shape": ["x"]}]},
        {"outputs": [{"name": "t", "datatype": "BYTES", "shape": [1]}]},
    ],
)
def test_a_header_that_lists_no_tensors_is_no_frame(header: Any) -> None:
    with pytest.raises(FrameError):
        unpack(bare(header, b"x"))


@pytest.mark.parametrize("shape", [[-1], [1, -1]])
def test_no_tensor_has_a_negative_dimension(shape: list[int]) -> None:
    outputs = [
        {"name": "a", "datatype": "INT8", "shape": [2]},
        {"name": "b", "datatype": "INT8", "shape": shape},
    ]
    with pytest.raises(FrameError):
        unpack(bare({"outputs": outputs}, b"x"))


def test_no_tensor_has_fewer_than_no_bytes() -> None:
    first = {"name": "a", "datatype": "INT8", "shape": [2], "bytes": 2}
    second = {"name": "b", "datatype": "INT8", "shape": [1], "bytes": -1}
    with pytest.raises(FrameError):
        unpack(bare({"outputs": [first, second]}, b"x"))


def test_without_a_byte_count_shape_and_datatype_say_it() -> None:
    outputs = [
        {"name": "a", "datatype": "FP32", "shape": [1, 2]},
        {"name": "b", "datatype": "INT8", "shape": [0]},
        {"name": "c", "datatype": "INT8", "shape": []},
    ]
    _, received = unpack(bare({"outputs": outputs}, b"12345678c"))
    assert [bytes(tensor.data) for tensor in received] == [b"12345678", b"", b"c"]


def test_tensors_are_views_of_the_frame_and_not_copies() -> None:
    frame = pack({}, [Tensor("t", "INT8", (2,), b"ab")])
    (tensor,) = unpack(frame)[1]
    assert isinstance(tensor.data, memoryview)
    assert tensor.data.obj is frame
