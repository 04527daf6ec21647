"""TensorFlow's TensorProto and our Tensor: the conversion both ways, for the backend and for the edge.

A TensorProto holds its elements either as `tensor_content` (raw bytes, as ours) or in one typed field; which
one depends on the datatype. A typed field with fewer values than the shape has elements repeats the last one
(tensorflow/core/framework/tensor.proto, tensor.cc). Strings are never raw: `string_val` has one entry each; a
server that was told to answer in `tensor_content` puts all their lengths first, as varints.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.errors import InvalidTensor
from gateway.inference import ITEM_BYTES, NUMPY_TYPES, Tensor, split_bytes
from gateway.wire_format import Parts, field
from services.protocol.tfserving_pb2 import (
    DT_BFLOAT16,
    DT_BOOL,
    DT_DOUBLE,
    DT_FLOAT,
    DT_HALF,
    DT_INT8,
    DT_INT16,
    DT_INT32,
    DT_INT64,
    DT_STRING,
    DT_UINT8,
    DT_UINT16,
    DT_UINT32,
    DT_UINT64,
    DataType,
    TensorProto,
)

DATATYPES: Mapping[str, DataType.ValueType] = MappingProxyType(
    {
        "BOOL": DT_BOOL,
        "UINT8": DT_UINT8,
        "UINT16": DT_UINT16,
        "UINT32": DT_UINT32,
        "UINT64": DT_UINT64,
        "INT8": DT_INT8,
        "INT16": DT_INT16,
        "INT32": DT_INT32,
        "INT64": DT_INT64,
        "FP16": DT_HALF,
        "BF16": DT_BFLOAT16,
        "FP32": DT_FLOAT,
        "FP64": DT_DOUBLE,
        "BYTES": DT_STRING,
    }
)
"""OIP datatype to TensorFlow's."""

_OIP: Final = {number: name for name, number in DATATYPES.items()}
_FIELD: Final = {
    **dict.fromkeys(("UINT8", "UINT16", "INT8", "INT16", "INT32"), "int_val"),
    **dict.fromkeys(("FP16", "BF16"), "half_val"),
    "BOOL": "bool_val",
    "UINT32": "uint32_val",
    "UINT64": "uint64_val",
    "INT64": "int64_val",
    "FP32": "float_val",
    "FP64": "double_val",
}
_WIRE: Final = {"int_val": np.dtype("<i4"), "half_val": np.dtype("<u2")}
_BITS: Final = {**NUMPY_TYPES, "FP16": np.dtype("<u2"), "BF16": np.dtype("<u2")}
_MAX_VARINT_BITS = 35


def oip_datatype(dtype: DataType.ValueType) -> str:
    """TensorFlow's datatype in OIP's words; its own name, or number, where there is none."""
    own = DataType.Name(dtype) if dtype in DataType.values() else f"datatype {dtype}"
    return _OIP.get(dtype, own)


def encoded(tensor: Tensor) -> Parts:
    """A tensor as the encoding of a TensorProto with its raw bytes, not copied; BYTES go to `string_val`.

    Args:
        tensor: its length must be right.
    """
    if tensor.datatype == "BYTES":
        proto = TensorProto()
        write(tensor, proto)
        return (proto.SerializeToString(),)
    head = _head(tensor, TensorProto()).SerializeToString()
    return head, *field(TensorProto.TENSOR_CONTENT_FIELD_NUMBER, tensor.data)


def write(tensor: Tensor, proto: TensorProto) -> None:
    """Fill an empty TensorProto, one value each in the datatype's own field, as TensorFlow Serving answers.

    Args:
        tensor: what to write; its length must be right.
        proto: where to.
    """
    _head(tensor, proto)
    if tensor.datatype == "BYTES":
        proto.string_val.extend(split_bytes(tensor))
    else:
        values = np.frombuffer(tensor.data, _BITS[tensor.datatype])
        getattr(proto, _FIELD[tensor.datatype]).extend(values.tolist())


def _head(tensor: Tensor, proto: TensorProto) -> TensorProto:
    proto.dtype = DATATYPES[tensor.datatype]
    for size in tensor.shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def read(
    name: str,
    proto: TensorProto,
    *,
    max_bytes: int,
    check: Callable[[str, str, tuple[int, ...]], None] | None = None,
    empty_is_zeros: bool = False,
) -> Tensor:
    """The tensor that a TensorProto holds.

    Args:
        name: how to call it.
        proto: what came.
        max_bytes: how large it may become when its last value repeats.
        check: sees that there may be a tensor of this name, datatype and shape, before any value is read;
            raises InvalidTensor.
        empty_is_zeros: whether a tensor without any value is all zeros, as TensorFlow reads a request; in a
            reply it is a fault.

    Raises:
        InvalidTensor: a datatype that OIP does not have, an unknown shape, or the wrong number of values.
    """
    datatype = _OIP.get(proto.dtype)
    if datatype is None:
        got = DataType.Name(proto.dtype) if proto.dtype in DataType.values() else str(proto.dtype)
        raise InvalidTensor(name, expected="a datatype that OIP has too", got=got)
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise InvalidTensor(name, expected="a shape with every dimension known", got=f"shape {list(shape)}")
    if check is not None:
        check(name, datatype, shape)
    tensor = Tensor(name, datatype, shape, b"")
    strings: Sequence[bytes] = ()
    item_bytes = ITEM_BYTES.get(datatype, 4)
    if datatype == "BYTES":
        strings = _strings(tensor, proto.tensor_content) if proto.tensor_content else proto.string_val
        item_bytes += len(strings[-1]) if len(strings) < tensor.elements and strings else 0
    if tensor.elements * item_bytes > max_bytes:
        raise InvalidTensor(name, expected=f"at most {max_bytes} bytes", got=f"{datatype} {list(shape)}")
    if datatype == "BYTES":
        return Tensor.of_bytes(name, shape, _repeat_strings(tensor, strings, empty_is_zeros))
    if proto.tensor_content:
        tensor = Tensor(name, datatype, shape, proto.tensor_content)
        tensor.check_length()
        return tensor
    return Tensor(name, datatype, shape, _typed(tensor, proto, empty_is_zeros).tobytes())


def _typed(tensor: Tensor, proto: TensorProto, empty_is_zeros: bool) -> NDArray[np.generic]:
    """The values of the typed field, as many as the shape has elements."""
    name, dtype = _FIELD[tensor.datatype], _BITS[tensor.datatype]
    sent = getattr(proto, name)
    missing = _missing(tensor, len(sent), empty_is_zeros)
    if not sent:
        return np.zeros(tensor.elements, dtype)
    values = np.array(sent, np.int32 if name in _WIRE else dtype).astype(dtype)
    return np.concatenate((values, np.full(missing, values[-1], dtype))) if missing else values


def _repeat_strings(tensor: Tensor, sent: Sequence[bytes], empty_is_zeros: bool) -> Iterator[bytes]:
    missing = _missing(tensor, len(sent), empty_is_zeros)
    yield from sent
    last = sent[-1] if sent else b""
    yield from (last for _ in range(missing))


def _missing(tensor: Tensor, sent: int, empty_is_zeros: bool) -> int:
    """How many values the last one sent stands for.

    Raises:
        InvalidTensor: more values than elements, or none at all.
    """
    elements = tensor.elements
    if sent > elements or (sent == 0 < elements and not empty_is_zeros):
        raise InvalidTensor(
            tensor.name,
            expected=f"{elements} values for {tensor.datatype} {list(tensor.shape)}",
            got=f"{sent} values",
        )
    return elements - sent


def _strings(tensor: Tensor, content: bytes) -> list[bytes]:
    """The strings of a `tensor_content`: every length as a varint, then the bytes of all."""
    lengths, position = [], 0
    for _ in range(tensor.elements):
        length, shift = 0, 0
        while True:
            if position == len(content) or shift == _MAX_VARINT_BITS:
                raise _broken_content(tensor, content)
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:  # noqa: PLR2004 - the high bit says that the varint goes on
                break
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise _broken_content(tensor, content)
    strings = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    return strings


def _broken_content(tensor: Tensor, content: bytes) -> InvalidTensor:
    return InvalidTensor(
        tensor.name,
        expected=f"tensor_content that holds {tensor.elements} strings",
        got=f"{len(content)} bytes that do not",
    )
