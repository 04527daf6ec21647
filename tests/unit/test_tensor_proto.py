"""TensorProto and Tensor, both ways."""

from typing import Any

import numpy as np
import pytest

from gateway.errors import InvalidTensor
from gateway.inference import NUMPY_TYPES, Tensor, split_bytes
from gateway.tensor_proto import DATATYPES, encoded, read, write
from services.protocol.tfserving_pb2 import DT_COMPLEX64, DT_FLOAT, DT_STRING, TensorProto

MEBIBYTE = 1024 * 1024


def sample(datatype: str) -> Tensor:
    if datatype == "BYTES":
        return Tensor.of_bytes("x", (2, 2), [b"a", b"", b"\xff\0", b"d" * 300])
    if datatype == "BF16":
        return Tensor("x", "BF16", (2, 2), np.array([0x3F80, 0xBF80, 0x7F80, 1], "<u2").tobytes())
    dtype = NUMPY_TYPES[datatype]
    if dtype.kind == "b":
        return Tensor.of("x", datatype, np.array([[True, False], [False, True]]))
    if dtype.kind == "f":
        return Tensor.of("x", datatype, np.array([[1.5, -2.0], [np.inf, np.nan]]))
    bits, lowest = 8 * dtype.itemsize, -1 if dtype.kind == "i" else 0
    limits = [lowest * 2 ** (bits - 1), 2 ** (bits + lowest) - 1]
    return Tensor.of("x", datatype, np.array([limits, [0, 1]], dtype))


def proto_of(shape: list[int], **fields: Any) -> TensorProto:
    proto = TensorProto(**{"dtype": DT_FLOAT, **fields})
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_back_bit_for_bit(datatype: str, typed: bool) -> None:
    tensor, proto = sample(datatype), TensorProto()
    if typed:
        write(tensor, proto)
    else:
        proto = TensorProto.FromString(b"".join(encoded(tensor)))
    assert bool(proto.tensor_content) is (not typed and datatype != "BYTES")
    assert read("x", TensorProto.FromString(proto.SerializeToString()), max_bytes=MEBIBYTE) == tensor


def test_the_last_value_repeats_up_to_the_shape() -> None:
    values = read("x", proto_of([2, 2], float_val=[1.0, 2.0]), max_bytes=MEBIBYTE).numpy()
    assert values.tolist() == [[1.0, 2.0], [2.0, 2.0]]


def test_the_last_string_repeats_up_to_the_shape() -> None:
    tensor = read("x", proto_of([3], dtype=DT_STRING, string_val=[b"a", b"b"]), max_bytes=MEBIBYTE)
    assert list(split_bytes(tensor)) == [b"a", b"b", b"b"]


def test_what_may_not_be_there_is_refused_before_any_value_is_made() -> None:
    def refuse(name: str, datatype: str, shape: tuple[int, ...]) -> None:
        raise InvalidTensor(name, expected="another", got=f"{datatype} {shape}")

    promised = proto_of([10**15], dtype=DT_STRING)
    with pytest.raises(InvalidTensor, match=r"tensor 'x': expected another, got BYTES \(1000000000000000,\)"):
        read("x", promised, max_bytes=MEBIBYTE, check=refuse, empty_is_zeros=True)


def test_a_scalar_has_no_dimension() -> None:
    assert read("x", proto_of([], float_val=[4.0]), max_bytes=MEBIBYTE).shape == ()


def test_a_tensor_without_elements_needs_no_values() -> None:
    assert read("x", proto_of([0, 3]), max_bytes=MEBIBYTE).data == b""


def test_no_values_are_zeros_only_where_that_is_the_rule() -> None:
    assert read("x", proto_of([2]), max_bytes=MEBIBYTE, empty_is_zeros=True).numpy().tolist() == [0.0, 0.0]
    with pytest.raises(InvalidTensor, match=r"expected 2 values.*got 0 values"):
        read("x", proto_of([2]), max_bytes=MEBIBYTE)


def test_strings_in_tensor_content_are_read_by_their_varints() -> None:
    long = b"z" * 300
    content = b"\x01\x00" + b"\xac\x02" + b"a" + long
    tensor = read("x", proto_of([3], dtype=DT_STRING, tensor_content=content), max_bytes=MEBIBYTE)
    assert list(split_bytes(tensor)) == [b"a", b"", long]


@pytest.mark.parametrize("content", [b"\x05a", b"\x80", b"\x80\x80\x80\x80\x80\x01a", b"\x01ab"])
def test_strings_in_broken_tensor_content_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidTensor, match="tensor 'x': expected tensor_content that holds 1 strings"):
        read("x", proto_of([1], dtype=DT_STRING, tensor_content=content), max_bytes=MEBIBYTE)


@pytest.mark.parametrize(
    ("proto", "said"),
    [
        (proto_of([2], dtype=DT_COMPLEX64), "got DT_COMPLEX64"),
        (proto_of([2], dtype=77), "got 77"),
        (proto_of([-1], float_val=[1.0]), "every dimension known"),
        (proto_of([1], float_val=[1.0, 2.0]), "expected 1 values"),
        (proto_of([2], tensor_content=b"\0" * 7), "expected 8 bytes"),
        (proto_of([10**6], float_val=[1.0]), "at most 1048576 bytes"),
        (proto_of([2**40, 2**40], float_val=[1.0]), "at most 1048576 bytes"),
        (proto_of([2000], dtype=DT_STRING, string_val=[b"x" * 1000]), "at most 1048576 bytes"),
    ],
)
def test_what_is_no_tensor_is_refused_by_name(proto: TensorProto, said: str) -> None:
    with pytest.raises(InvalidTensor, match=said) as raised:
        read("x", proto, max_bytes=MEBIBYTE)
    assert raised.value.tensor == "x"
