"""The body of OIP REST's infer call: JSON, JSON with binary tensors behind it, or one raw input.

See https://github.com/kserve/open-inference-protocol and Triton's extensions (docs/protocol: `binary_data`,
`classification`, `parameters`). Keys that no specification knows are ignored, as in Triton, and null counts
as absent where a key may be absent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from gateway.contract import Contract
from gateway.errors import InvalidTensor, MalformedBody, Unsupported
from gateway.inference import ITEM_BYTES, Parameter, Tensor
from gateway.protocols.oip_classification import check_classifiable
from gateway.protocols.oip_fields import (
    INT64_LIMIT,
    check_parameter_count,
    natural,
    optional,
    required,
    shown,
)
from gateway.protocols.oip_json import BINARY_ONLY, parse_json, tensor_from_json

HEADER_LENGTH = "Inference-Header-Content-Length"
_MAX_DIGITS = 18
_KNOWN_PARAMETERS: Mapping[str, type] = {
    "binary_data_output": bool,
    "priority": int,
    "timeout": int,
    "variant": str,
}


@dataclass(slots=True)
class OutputForm:
    """How the caller wants one output.

    Attributes:
        binary: behind the JSON instead of in it.
        classes: how many of the best classes instead of the values; 0 means the values.
    """

    binary: bool
    classes: int = 0


@dataclass(slots=True)
class OipBody:
    """What an infer call's body says.

    Attributes:
        inputs: the tensors; not yet compared with the contract.
        forms: the outputs asked for, in order; empty means all.
        binary_output: the form of outputs that do not state one.
        parameters: of the request, the gateway's own ones included.
        id: the caller's own id.
    """

    inputs: tuple[Tensor, ...]
    forms: Mapping[str, OutputForm]
    binary_output: bool
    parameters: Mapping[str, Parameter]
    id: str = ""

    def form(self, output: str) -> OutputForm:
        """How the caller wants this output."""
        return self.forms.get(output) or OutputForm(self.binary_output)


def read_infer_body(body: bytes, header_length: bytes | None, contract: Contract) -> OipBody:
    """Take an infer call's body apart.

    Args:
        body: the whole body.
        header_length: the value of `Inference-Header-Content-Length`; without it all of the body is JSON,
            whatever its content type, and with 0 all of it is the only input.
        contract: the model's; of use for a raw input, and to refuse what an input or an output cannot be.

    Raises:
        MalformedBody: it is not JSON, or a key has the wrong type.
        InvalidRequest: far more tensors than there are.
        InvalidTensor: a tensor's keys, data or size are wrong, or an output cannot have the form asked for.
        Unsupported: a tensor in shared memory.
    """
    if header_length is None:
        split = len(body)
    else:
        split = _header_length(header_length, len(body))
        if split == 0:
            return OipBody((_raw_input(body, contract),), {}, binary_output=True, parameters={})
    view = memoryview(body)
    return read_content(parse_json(view[:split]), view[split:], contract)


def read_content(content: object, binary: memoryview, contract: Contract) -> OipBody:
    """Take the JSON of an infer call apart.

    Args:
        content: as `parse_json` has it; a `data` may be the bytes of its tensor already.
        binary: what stands behind it.
        contract: the model's.

    Raises:
        MalformedBody, InvalidRequest, InvalidTensor, Unsupported: as `read_infer_body`.
    """
    if not isinstance(content, dict):
        raise MalformedBody(f"the body: expected an object, got {shown(content)}")
    inputs, outputs = required(content, "inputs", list), optional(content, "outputs", list, [])
    contract.check_counts(inputs=len(inputs), outputs=len(outputs))
    parameters = _parameters(content)
    binary_output = bool(parameters.get("binary_data_output", False))
    read = OipBody(
        inputs=_inputs(inputs, binary, contract),
        forms=_forms(outputs, binary_output=binary_output),
        binary_output=binary_output,
        parameters=parameters,
        id=optional(content, "id", str, ""),
    )
    _check_forms(read, contract)
    return read


def _header_length(value: bytes, body_bytes: int) -> int:
    if not value.isdigit() or len(value) > _MAX_DIGITS or int(value) > body_bytes:
        got = value.decode("latin-1")
        raise MalformedBody(f"{HEADER_LENGTH}: expected 0 to {body_bytes}, the body's length, got '{got}'")
    return int(value)


def _raw_input(body: bytes, contract: Contract) -> Tensor:
    """The whole body as the model's only input: one item, and one variable dimension that fits the bytes."""
    if len(contract.inputs) != 1:
        names = [spec.name for spec in contract.inputs]
        raise MalformedBody(f"{HEADER_LENGTH} 0: expected a model with one input, got {names}")
    spec = contract.inputs[0]
    shape = (1, *spec.shape) if contract.max_batch_size else spec.shape
    item = prod(size for size in spec.shape if size >= 0)
    variable = spec.shape.count(-1)
    if spec.datatype == "BYTES":
        if variable or item != 1:
            expected = "a shape of one element, as a raw BYTES input needs"
            raise InvalidTensor(spec.name, expected=expected, got=f"{list(spec.shape)}")
        return Tensor.of_bytes(spec.name, shape, [body])
    if variable > 1:
        expected = "at most one variable dimension, as a raw input needs"
        raise InvalidTensor(spec.name, expected=expected, got=f"{list(spec.shape)}")
    count = len(body) // (item * ITEM_BYTES[spec.datatype])
    return Tensor(spec.name, spec.datatype, tuple(count if size < 0 else size for size in shape), body)


def _inputs(entries: list[Any], binary: memoryview, contract: Contract) -> tuple[Tensor, ...]:
    tensors = []
    position = 0
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise MalformedBody(f"inputs[{place}]: expected an object, got {shown(entry)}")
        name = required(entry, "name", str, f"inputs[{place}].")
        where = f"input '{name}': "
        datatype = required(entry, "datatype", str, where)
        sizes = required(entry, "shape", list, where)
        if any(type(size) is not int or not 0 <= size < INT64_LIMIT for size in sizes):
            raise InvalidTensor(name, expected="a shape of non-negative integers", got=shown(sizes))
        parameters = optional(entry, "parameters", dict, {}, where)
        _refuse_shared_memory(name, parameters)
        if ("data" in entry) is ("binary_data_size" in parameters):
            both = "both" if "data" in entry else "neither"
            raise InvalidTensor(name, expected="either 'data' or 'binary_data_size'", got=both)
        shape = tuple(sizes)
        if "data" in entry:
            contract.check_input(name, datatype, shape)
            tensors.append(tensor_from_json(name, datatype, shape, entry["data"]))
            continue
        size = natural(parameters, "binary_data_size", where)
        if size > len(binary) - position:
            got = f"{len(binary) - position} (does {HEADER_LENGTH} give the length of the JSON?)"
            raise InvalidTensor(name, expected=f"{size} bytes behind the JSON", got=got)
        tensors.append(Tensor(name, datatype, shape, binary[position : position + size]))
        position += size
    if position < len(binary):
        raise MalformedBody(f"expected {position} bytes of binary data behind the JSON, got {len(binary)}")
    return tuple(tensors)


def _forms(entries: list[Any], *, binary_output: bool) -> dict[str, OutputForm]:
    forms = {}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise MalformedBody(f"outputs[{place}]: expected an object, got {shown(entry)}")
        name = required(entry, "name", str, f"outputs[{place}].")
        where = f"output '{name}': "
        parameters = optional(entry, "parameters", dict, {}, where)
        _refuse_shared_memory(name, parameters)
        classes = natural(parameters, "classification", where) if "classification" in parameters else 0
        forms[name] = OutputForm(optional(parameters, "binary_data", bool, binary_output, where), classes)
    return forms


def _check_forms(read: OipBody, contract: Contract) -> None:
    """Refuse a form that an output cannot have, before it costs an inference."""
    for spec in contract.outputs:
        if read.forms and spec.name not in read.forms:
            continue
        form = read.form(spec.name)
        if form.classes:
            check_classifiable(spec.name, spec.datatype)
        elif spec.datatype in BINARY_ONLY and not form.binary:
            expected = f"'binary_data': true, since JSON cannot hold {spec.datatype}"
            raise InvalidTensor(spec.name, expected=expected, got="a request for JSON")


def _parameters(content: Mapping[str, Any]) -> dict[str, Parameter]:
    parameters: dict[str, Parameter] = optional(content, "parameters", dict, {})
    check_parameter_count(len(parameters))
    for name, value in parameters.items():
        where = "parameter "
        if name.startswith("triton_"):
            raise MalformedBody(f"parameter '{name}': expected another name, since 'triton_' is reserved")
        kind = _KNOWN_PARAMETERS.get(name)
        if kind is int:
            natural(parameters, name, where)
        elif kind is not None:
            required(parameters, name, kind, where)
        elif not isinstance(value, (bool, int, float, str)) or (
            type(value) is int and not -INT64_LIMIT <= value < INT64_LIMIT
        ):
            expected = "a string, a boolean, a number or a 64-bit integer"
            raise MalformedBody(f"parameter '{name}': expected {expected}, got {shown(value)}")
    return parameters


def _refuse_shared_memory(name: str, parameters: Mapping[str, Any]) -> None:
    if "shared_memory_region" in parameters:
        raise Unsupported(f"tensor '{name}': shared memory is not supported")
