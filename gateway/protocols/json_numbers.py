"""Lists of numbers in OIP's JSON: cut out of the text, and read without a Python object for each number.

What is left of the text, its skeleton, is short, and mostly the same from request to request (`oip_heads`).
What is usual and right is read so; whatever else comes is left to `oip_json`, which finds the errors.
"""

import re
import secrets
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import simdjson

from gateway.inference import NUMPY_TYPES
from gateway.protocols.oip_json import check_value_count

SKELETON_BYTES: Final = 16 * 1024
"""The longest skeleton. A text that leaves a longer one is mostly something else (strings, nested lists), and
would be read twice."""
MOST_LISTS: Final = 64
"""A text with more is not taken apart either."""

_BUFFERS: Final = {
    **dict.fromkeys(("FP32", "FP64"), ("d", np.dtype(np.float64))),
    **dict.fromkeys(("INT8", "INT16", "INT32", "INT64"), ("i", np.dtype(np.int64))),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32", "UINT64"), ("u", np.dtype(np.uint64))),
}
"""By OIP datatype: how simdjson calls what holds all its values, and numpy. A fraction is no integer to it,
an integer is a float, and text, booleans and null are neither."""
NO_NUMBERS: Final = (TypeError, ValueError, RuntimeError)
"""What `tensor_bytes` raises of a text."""

_KEY: Final = b'"data"'
_TO_LIST: Final = re.compile(rb"[ \t\r\n]{0,99}:[ \t\r\n]{0,99}(?=\[)")
_PLACE: Final = [secrets.token_hex(16)]
"""What stands in the skeleton for each list; nobody can guess it and send it."""
_MARK: Final = orjson.dumps(_PLACE)


class Cut(NamedTuple):
    """The JSON of an infer call, taken apart.

    Attributes:
        skeleton: the text with a mark in the place of each list.
        lists: the text of each, brackets included.
    """

    skeleton: bytes
    lists: list[memoryview]

    def content(self) -> dict[str, Any] | None:
        """What `oip_json.parse_json` makes of the text, but for each `data`: the bytes of its tensor.

        None for what is to be read by that: a `data` that is no list of numbers of its datatype, a list that
        belongs to something else, and all that is not JSON or no infer call.
        """
        try:
            content: dict[str, Any] = orjson.loads(self.skeleton)
            entries = content["inputs"]
            # With as many marks as inputs, each of which has one as its data, they come in the same order.
            if len(entries) != len(self.lists) or any(entry["data"] != _PLACE for entry in entries):
                return None
            for entry, text in zip(entries, self.lists, strict=True):
                entry["data"] = tensor_bytes(entry["datatype"], text)
        except (*NO_NUMBERS, LookupError):
            return None
        return content


def cut_out(text: bytes) -> Cut | None:
    """Cut what may be the lists of numbers out of the JSON of an infer call; None if it has none.

    Raises:
        MalformedBody: it has more than `oip_json.VALUES_LIMIT` values.
    """
    check_value_count(text)
    parts: list[bytes] = []
    lists: list[memoryview] = []
    view = memoryview(text)
    skeleton_bytes = done = place = 0
    while (place := text.find(_KEY, place)) >= 0:
        if skeleton_bytes + place - done > SKELETON_BYTES or len(lists) > MOST_LISTS:
            return None
        place += len(_KEY)
        found = _TO_LIST.match(text, place)
        if found is None:
            continue
        begin = found.end()
        end = text.find(b"]", begin) + 1
        if not end:
            return None
        parts += (text[done:begin], _MARK)
        lists.append(view[begin:end])
        skeleton_bytes += begin - done + len(_MARK)
        done = place = end
    if not 0 < len(lists) <= MOST_LISTS or skeleton_bytes + len(text) - done > SKELETON_BYTES:
        return None
    parts.append(text[done:])
    return Cut(b"".join(parts), lists)


def tensor_bytes(datatype: str, text: memoryview) -> bytes:
    """A list of numbers as a tensor has them, floats rounded.

    Raises:
        TypeError, ValueError, RuntimeError: it is no list of numbers that the datatype has.
        KeyError: the datatype has no numbers in JSON.
    """
    code, dtype = _BUFFERS[datatype]
    numbers: Any = simdjson.Parser().parse(text)
    values = np.frombuffer(numbers.as_buffer(of_type=code), dtype)
    with np.errstate(over="ignore"):
        cast = values.astype(NUMPY_TYPES[datatype], copy=False)
    if code != "d" and not np.array_equal(cast, values):
        raise ValueError
    return cast.tobytes()
