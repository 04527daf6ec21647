"""The body of TensorFlow Serving's REST predict call: `instances` (rows) or `inputs` (columns) as tensors.

Format: https://www.tensorflow.org/tfx/serving/api_rest; what it leaves open is as in the server's
tensorflow_serving/util/json_tensor.cc. Errors in a tensor name that tensor. An input that the model does not
have is refused in both forms (the server ignores it in the columnar one).
"""

import base64
import binascii
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np

from gateway.contract import Contract
from gateway.errors import InvalidTensor, MalformedBody, Unsupported
from gateway.inference import Tensor
from gateway.protocols.oip_fields import shown
from gateway.protocols.oip_json import shape_of
from gateway.specs import TensorSpec

_NUMBERS: Mapping[str, tuple[str, frozenset[type]]] = MappingProxyType(
    {
        "FP64": ("d", frozenset({int, float})),
        "FP32": ("d", frozenset({int, float})),
        **{
            datatype: (code, frozenset({int}))
            for datatype, code in {
                "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
                "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
            }.items()
        },
    },
)  # fmt: skip
"""Code of `array`, and the JSON types that a datatype takes: no fraction becomes an integer."""
_EXACT = {"FP32": 2**24 - 1, "FP64": 2**53 - 1}
"""The largest integer that the server takes for a float: the next ones would lose digits."""
_TENSORFLOW_NAMES = {"FP32": "float", "FP64": "double", "BYTES": "string"}


def read_inputs(content: Mapping[str, Any], contract: Contract) -> tuple[tuple[Tensor, ...], bool]:
    """The inputs of a request, and whether it has the row form.

    Raises:
        MalformedBody: neither form, or not as it must be.
        InvalidTensor: values of the wrong type, or ragged lists.
        Unsupported: a datatype that the server's JSON does not have.
    """
    rows, columns = "instances" in content, "inputs" in content
    if rows and columns:
        raise MalformedBody(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        )
    if rows:
        values = _columns_of_rows(content["instances"], contract)
    elif columns:
        values = _columns(content["inputs"], contract)
    else:
        raise MalformedBody("Missing 'inputs' or 'instances' key")
    return tuple(_tensor(contract, spec, values[spec.name]) for spec in contract.inputs), rows


def _columns_of_rows(instances: Any, contract: Contract) -> dict[str, Any]:
    """The row form: each input's values of all instances, as one list."""
    if not isinstance(instances, list):
        raise MalformedBody(f"Expecting 'instances' to be a list/array, got {shown(instances)}")
    if not instances:
        raise MalformedBody("No values in 'instances' array")
    names = [spec.name for spec in contract.inputs]
    _check_batch(contract, len(instances))
    if not _is_named(instances[0]):
        if len(names) > 1:
            raise MalformedBody(
                "instances is a plain list, but expecting list of objects as multiple input tensors required "
                f"as per tensorinfo_map: {','.join(sorted(names))}"
            )
        for place, instance in enumerate(instances):
            if _is_named(instance):
                raise MalformedBody(f"Expecting value/list but got object at item {place} of input list")
        return {names[0]: instances}
    for place, instance in enumerate(instances):
        if not _is_named(instance):
            raise MalformedBody(f"Expecting object but got list at item {place} of input list")
        if instance.keys() != set(names):
            unknown = sorted(instance.keys() - set(names))
            missing = f" JSON object: does not have named input: {unknown[0]};" if unknown else ""
            raise MalformedBody(
                f"Failed to process element: {place} of 'instances' list.{missing} "
                f"must only have keys: {','.join(sorted(names))}"
            )
    return {name: [instance[name] for instance in instances] for name in names}


def _check_batch(contract: Contract, instances: int) -> None:
    """Refuse too many instances before a look at each: there may be millions."""
    if instances > contract.max_batch_size > 0:
        expected = f"a batch of 1 to {contract.max_batch_size}"
        raise InvalidTensor(contract.inputs[0].name, expected=expected, got=f"a batch of {instances}")


def _columns(inputs: Any, contract: Contract) -> dict[str, Any]:
    """The columnar form: the one input's values, or an object of all inputs."""
    names = [spec.name for spec in contract.inputs]
    if not _is_named(inputs):
        if len(names) > 1:
            raise MalformedBody(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required "
                f"as per tensorinfo_map: {','.join(sorted(names))}"
            )
        return {names[0]: inputs}
    for name in names:
        if name not in inputs:
            raise MalformedBody(f"Missing named input: {name} in 'inputs' object.")
    if unknown := sorted(inputs.keys() - set(names)):
        raise InvalidTensor(unknown[0], expected=f"the inputs {names}", got="an unknown input")
    return dict(inputs)


def _tensor(contract: Contract, spec: TensorSpec, value: Any) -> Tensor:
    """A dense tensor of nested lists; the first element of each level tells the shape."""
    shape = shape_of(value)
    contract.check_input(spec.name, spec.datatype, shape)
    flat = [value]
    for level, size in enumerate(shape):
        if set(map(type, flat)) != {list} or set(map(len, flat)) != {size}:
            odd = next(each for each in flat if not isinstance(each, list) or len(each) != size)
            got = f"one of {len(odd)}" if isinstance(odd, list) else shown(odd)
            expected = f"lists of {size} at level {level}, as the first one is"
            raise InvalidTensor(spec.name, expected=expected, got=got)
        flat = list(chain.from_iterable(flat))
    if spec.datatype == "BYTES":
        return Tensor.of_bytes(spec.name, shape, [_string(spec, each) for each in flat])
    return Tensor(spec.name, spec.datatype, shape, _packed(spec, flat))


def _packed(spec: TensorSpec, values: list[Any]) -> bytes:
    """Numbers or booleans as raw bytes."""
    datatype = spec.datatype
    if datatype == "BOOL":
        _check_types(spec, values, frozenset({bool}))
        return bytes(values)
    if datatype not in _NUMBERS:
        raise Unsupported(f"tensor '{spec.name}': TF Serving's JSON has no conversion to {datatype}")
    code, types = _NUMBERS[datatype]
    _check_types(spec, values, types)
    try:
        packed = array(code, values)
    except OverflowError as error:
        worst = max(values, key=abs)
        raise InvalidTensor(spec.name, expected=f"numbers that fit {datatype}", got=shown(worst)) from error
    if datatype in _EXACT:
        _check_lossless(spec, values, np.frombuffer(packed, np.float64))
    return (
        np.frombuffer(packed, np.float64).astype("<f4").tobytes() if datatype == "FP32" else packed.tobytes()
    )


def _check_types(spec: TensorSpec, values: Iterable[Any], types: frozenset[type]) -> None:
    if not set(map(type, values)) <= types:
        raise _type_error(spec, next(value for value in values if type(value) not in types))


def _check_lossless(
    spec: TensorSpec, values: Sequence[Any], doubles: "np.ndarray[Any, np.dtype[np.float64]]"
) -> None:
    """Refuse integers beyond the float's digits and numbers beyond its range; NaN and Infinity are fine."""
    exact = _EXACT[spec.datatype]
    largest = float(np.finfo(np.float32 if spec.datatype == "FP32" else np.float64).max)
    for place in np.flatnonzero(np.isfinite(doubles) & (np.abs(doubles) > exact)).tolist():
        value = values[place]
        if isinstance(value, int) or abs(value) > largest:
            raise InvalidTensor(
                spec.name,
                expected=f"numbers that fit {spec.datatype}",
                got=f"Cannot convert JSON value: {shown(value)} to {_TENSORFLOW_NAMES[spec.datatype]} "
                "without loss of precision.",
            )


def _string(spec: TensorSpec, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not _is_base64(value):
        raise _type_error(spec, value)
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidTensor(spec.name, expected='base64 in "b64"', got="Unable to base64 decode") from error


def _type_error(spec: TensorSpec, value: Any) -> InvalidTensor:
    kind = {bool: str(value), type(None): "Null", str: "String", list: "Array", dict: "Object"}.get(
        type(value), "Number"
    )
    expected = _TENSORFLOW_NAMES.get(spec.datatype, spec.datatype.lower())
    return InvalidTensor(
        spec.name,
        expected=spec.datatype,
        got=f"JSON Value: {shown(value)} Type: {kind} is not of expected type: {expected}",
    )


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)
