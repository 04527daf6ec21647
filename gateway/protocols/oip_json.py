"""OIP's JSON: the text, with the NaN and Infinity tokens that Triton takes and gives, and the tensors in it.

What it costs, on the event loop, since neither step lets go of the interpreter: 784 floats 48 us in (orjson,
then one typed `array`) and 20 us out; 150,528 floats (an image of 224x224x3) 15 ms in, nested 25 ms. Flat
lists of numbers are read by `json_numbers` in less. Tensors in binary cost nothing here.
"""

import json
import re
from array import array
from collections.abc import Mapping
from itertools import chain
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.errors import InvalidTensor, MalformedBody
from gateway.inference import ITEM_BYTES, Tensor, split_bytes
from gateway.protocols.oip_fields import shown

BINARY_ONLY = frozenset({"FP16", "BF16"})
"""Datatypes that JSON cannot hold, as Triton has it."""

_TYPE_CODES: Mapping[str, str] = MappingProxyType(
    {
        "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
        "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
        "FP32": "f", "FP64": "d",
    },
)  # fmt: skip
"""Codes of `array`, which takes a list of numbers as fast as numpy does, but refuses text, null and, for
integers, fractions and what is out of range. (numpy would read "1.5" as 1.5, null as NaN and 1.5 as 1.)"""

_STRING_OR_INF = re.compile(rb'"(?:[^"\\]|\\.)*+"?|\bInf\b', re.DOTALL)
"""A string is matched whole, closed or not, so that what is inside of one is never taken for a token."""
_INF = re.compile(rb"\bInf\b")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

TOKENS_LIMIT_BYTES = 8 * 1024 * 1024
"""The largest JSON in which NaN and Infinity are read: the parser that knows them takes 20 to 37 ns a byte,
and every other request waits meanwhile; so it may take as long as the fast one takes for the largest body."""
INF_LIMIT = 256 * 1024
"""The most strings and `Inf` in a text with `Inf`, which must be told from one in a string: 500 ns each."""
VALUES_LIMIT = 4 * 1024 * 1024
"""The most values of one JSON text, told by its commas. An empty list is 3 bytes in JSON and 56 here: a body
of 64 MiB could fill 2 GB and hold up every other request for seconds."""


def parse_json(text: bytes | memoryview) -> Any:
    """JSON, with Triton's `NaN`, `Infinity` and `Inf` beside it.

    Raises:
        MalformedBody: it is not JSON, and the text says where; or it has more than VALUES_LIMIT values.
    """
    check_value_count(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        plain = bytes(text)
        if b"NaN" not in plain and b"Inf" not in plain:
            raise MalformedBody(f"the body is not JSON: {error}") from error
        return _parse_with_tokens(plain)


def check_value_count(text: bytes | memoryview) -> None:
    """Refuse a text with more than VALUES_LIMIT values.

    Raises:
        MalformedBody: it has.
    """
    if len(text) > VALUES_LIMIT and (commas := bytes(text).count(b",")) > VALUES_LIMIT:
        raise MalformedBody(
            f"JSON: expected at most {VALUES_LIMIT} values, got {commas}: send binary tensors"
        )


def _parse_with_tokens(text: bytes) -> Any:
    if len(text) > TOKENS_LIMIT_BYTES:
        raise MalformedBody(
            f"NaN and Infinity in JSON over {TOKENS_LIMIT_BYTES} bytes: send binary tensors instead"
        )
    # Half a surrogate pair would get through this parser and break whatever encodes it again.
    if _SURROGATE.search(text):
        raise MalformedBody("the body is not JSON: escaped surrogates beside NaN or Infinity")
    if _INF.search(text):
        if text.count(b'"') // 2 + text.count(b"Inf") > INF_LIMIT:
            raise MalformedBody(
                f"`Inf` in JSON with more than {INF_LIMIT} strings and numbers: write Infinity"
            )
        text = _STRING_OR_INF.sub(lambda found: b"Infinity" if found[0] == b"Inf" else found[0], text)
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"the body is not JSON: {error}") from error


def tensor_from_json(name: str, datatype: str, shape: tuple[int, ...], data: object) -> Tensor:
    """The tensor of an input's `data`, flat or nested in any way, as Triton takes it.

    Bytes are what `json_numbers` has made of it. A boolean among numbers is noticed only in front of them: a
    look at the type of each would cost as much as the conversion.

    Raises:
        InvalidTensor: elements of the wrong type, or more or fewer of them than the shape says.
    """
    if isinstance(data, bytes):
        _expect_count(name, shape, len(data) // ITEM_BYTES[datatype])
        return Tensor(name, datatype, shape, data)
    if datatype in BINARY_ONLY:
        raise InvalidTensor(
            name, expected=f"binary data, since JSON cannot hold {datatype}", got="JSON 'data'"
        )
    values = _flat(name, data)
    _expect_count(name, shape, len(values))
    if datatype == "BYTES":
        _expect(name, values, str, "text for BYTES")
        return Tensor.of_bytes(name, shape, (value.encode() for value in values))
    if datatype == "BOOL":
        _expect(name, values, bool, "true or false for BOOL")
        return Tensor(name, datatype, shape, bytes(values))
    code = _TYPE_CODES.get(datatype)
    if code is None:
        raise InvalidTensor(name, expected="an OIP datatype", got=f"'{datatype}'")
    if values and isinstance(values[0], bool):
        raise _wrong_element(name, f"numbers for {datatype}", 0, values[0])
    try:
        return Tensor(name, datatype, shape, array(code, values).tobytes())
    except (TypeError, OverflowError) as error:
        place = next(place for place, value in enumerate(values) if not _fits(code, value))
        raise _wrong_element(name, f"numbers that fit {datatype}", place, values[place]) from error


def shape_of(data: object) -> tuple[int, ...]:
    """The shape of a nested list by each level's first element; the conversion finds an irregular one."""
    shape = []
    while isinstance(data, list):
        shape.append(len(data))
        data = data[0] if data else None
    return tuple(shape)


def tensor_to_json(tensor: Tensor) -> Any:
    """The flat `data` of an output, for `orjson.dumps`: FP32 in its shortest form.

    Raises:
        InvalidTensor: BYTES that are no UTF-8 text, which only binary data can hold.
    """
    if tensor.datatype == "BYTES":
        try:
            return [item.decode() for item in split_bytes(tensor)]
        except UnicodeDecodeError as error:
            expected = "UTF-8 text, or 'binary_data': true in the request"
            raise InvalidTensor(tensor.name, expected=expected, got="bytes that are not UTF-8") from error
    return numbers_to_json(tensor.numpy().reshape(-1))


def numbers_to_json(values: NDArray[Any]) -> orjson.Fragment:
    """These numbers, of any shape, for `orjson.dumps`; NaN and Infinity as tokens."""
    text = orjson.dumps(values if values.shape else values[()], option=orjson.OPT_SERIALIZE_NUMPY)
    # It writes null for each value that is not finite, and numbers have no other nulls.
    if b"null" in text:
        tokens = [json.dumps(value).encode() for value in values[~np.isfinite(values)].tolist()]
        text = b"".join(chain.from_iterable(zip(text.split(b"null"), [*tokens, b""], strict=True)))
    return orjson.Fragment(text)


def _flat(name: str, data: object) -> list[Any]:
    if not isinstance(data, list):
        raise InvalidTensor(name, expected="'data' as a list", got=shown(data))
    while data and isinstance(data[0], list):
        _expect(name, data, list, "a list at every place of one depth")
        data = list(chain.from_iterable(data))
    return data


def _expect_count(name: str, shape: tuple[int, ...], count: int) -> None:
    if count != (elements := prod(shape)):
        expected, got = f"{elements} elements for shape {list(shape)}", f"{count} elements in 'data'"
        raise InvalidTensor(name, expected=expected, got=got)


def _expect(name: str, values: list[Any], kind: type, expected: str) -> None:
    if set(map(type, values)) - {kind}:
        place = next(place for place, value in enumerate(values) if type(value) is not kind)
        raise _wrong_element(name, expected, place, values[place])


def _fits(code: str, value: Any) -> bool:
    try:
        array(code, [value])
    except (TypeError, OverflowError):
        return False
    return True


def _wrong_element(name: str, expected: str, place: int, value: object) -> InvalidTensor:
    return InvalidTensor(name, expected=expected, got=f"{shown(value)} as element {place}")
