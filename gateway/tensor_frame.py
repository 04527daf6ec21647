"""Tensors as one byte string: how answers lie in Redis and come back from our TorchServe handler.

A frame is the 4-byte little-endian length of a JSON header, the header, then each tensor's raw bytes in the
header's order. The header is a JSON object whose `outputs` lists name, datatype, shape and byte count of each
tensor; whatever else it holds is the writer's own.
"""

import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import orjson

from gateway.inference import ITEM_BYTES, Tensor

_LENGTH = struct.Struct("<I")


class FrameError(ValueError):
    """The bytes are not a frame."""


def pack(meta: Mapping[str, Any], tensors: Sequence[Tensor]) -> bytes:
    """One frame of `meta` (JSON-able) and `tensors`."""
    outputs = [
        {"name": t.name, "datatype": t.datatype, "shape": t.shape, "bytes": len(t.data)} for t in tensors
    ]
    header = orjson.dumps({**meta, "outputs": outputs})
    return b"".join((_LENGTH.pack(len(header)), header, *(tensor.data for tensor in tensors)))


def unpack(frame: bytes) -> tuple[dict[str, Any], tuple[Tensor, ...]]:
    """Header and tensors of a frame; the tensors are views of it, not copies.

    Raises:
        FrameError: cut short, too long, or not a frame at all.
    """
    view = memoryview(frame)
    try:
        start = _LENGTH.size + _LENGTH.unpack_from(frame)[0]
        meta = orjson.loads(view[_LENGTH.size : start])
        tensors = []
        for output in meta.pop("outputs"):
            shape = tuple(output["shape"])
            end = start + _byte_count(output, shape)
            tensors.append(Tensor(output["name"], output["datatype"], shape, view[start:end]))
            start = end
    except (struct.error, orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise FrameError(f"not a tensor frame: {error}") from error
    if start != len(view):
        raise FrameError(f"the header promises {start} bytes, the frame has {len(view)}")
    return meta, tuple(tensors)


def _byte_count(output: Mapping[str, Any], shape: tuple[int, ...]) -> int:
    count = output.get("bytes")
    if not isinstance(count, int):
        count = ITEM_BYTES[output["datatype"]] * prod(shape)
    if count < 0 or any(size < 0 for size in shape):
        raise FrameError(f"a tensor of {count} bytes and shape {list(shape)}")
    return count
