"""What TorchServe's clients send, as tensors; and tensors as the answers that they expect.

TorchServe leaves a payload's meaning to each model's handler. For a model with a contract it means here what
it means to TorchServe's own handlers: a file, a text or a JSON object (the contract's `payload` says which),
or JSON that holds a text, a base64 file or a tensor's numbers. `{"instances": [...]}` is several of these,
answered by `{"predictions": [...]}`.
"""

import asyncio
import base64
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.contract import Contract
from gateway.errors import InvalidTensor, MalformedBody
from gateway.inference import InferResponse, Tensor, split_bytes
from gateway.protocols.edge import in_thread
from gateway.protocols.oip_json import parse_json, shape_of, tensor_from_json
from gateway.specs import Padded
from gateway.transforms import Transform

PAYLOAD_FIELDS = ("data", "body")
"""Where TorchServe's own handlers look for the payload, in this order."""

EXPECTED = {"file": "a file, a file in base64", "text": "a text", "json": "a JSON object"}
"""The words of an error, by the contract's `payload`."""

Item = Mapping[str, Tensor]
"""One item's inputs by name, without the batch axis."""


def payload(fields: Mapping[str, Any]) -> Any:
    """The field that counts: `data`, else `body`, else the first one; no bytes when there is none."""
    for name in (*PAYLOAD_FIELDS, *fields):
        if name in fields:
            return fields[name]
    return b""


def pass_through(fields: Mapping[str, bytes]) -> tuple[Tensor, ...]:
    """The fields of a request to a model without a contract: BYTES [1] each."""
    return tuple(Tensor.of_bytes(name, (1,), [value]) for name, value in fields.items())


async def read_items(
    contract: Contract, transform: Transform | None, content: Any, turn: asyncio.Semaphore
) -> tuple[tuple[Tensor, ...], bool]:
    """The inputs of one request.

    Args:
        contract: the model's.
        transform: the model's, if it takes files.
        content: the payload's bytes (for a model that takes JSON objects or has no transform: JSON's), or
            parsed JSON.
        turn: the edge's, to decode a file.

    Returns:
        The inputs with the batch axis, and whether they are `instances`.

    Raises:
        MalformedBody: not a file that the model takes, or JSON of another form.
        InvalidTensor: numbers that do not make the tensor.
    """
    if isinstance(content, bytes) and (transform is None or contract.payload == "json"):
        content = parse_json(content)
    if not isinstance(content, dict) or "instances" not in content:
        return _join(contract, [await _item(contract, transform, content, turn)]), False
    instances = content["instances"]
    limit = max(contract.max_batch_size, 1)
    if not isinstance(instances, list) or not 1 <= len(instances) <= limit:
        got = f"{len(instances)} items" if isinstance(instances, list) else "something else"
        raise MalformedBody(f"'instances': expected a list of 1 to {limit} items, got {got}")
    items = [await _item(contract, transform, instance, turn) for instance in instances]
    return _join(contract, items), True


def write_answer(
    contract: Contract, transform: Transform | None, response: InferResponse, *, many: bool
) -> bytes:
    """The reply's JSON: `{label: probability}`, or the outputs' values where the model has no transform."""
    columns = {tensor.name: _values(tensor) for tensor in response.outputs}
    items = [columns]
    if contract.max_batch_size:
        rows = range(response.outputs[0].shape[0])
        items = [{name: values[row] for name, values in columns.items()} for row in rows]
    write = transform.to_answer if transform is not None else _plain
    answers = [write(item) for item in items]
    return orjson.dumps({"predictions": answers} if many else answers[0], option=orjson.OPT_INDENT_2)


async def _item(
    contract: Contract, transform: Transform | None, content: Any, turn: asyncio.Semaphore
) -> Item:
    """One item, from the payload's bytes or from what JSON has in its place."""
    inputs = [spec.name for spec in contract.inputs]
    takes_objects = contract.payload == "json"
    if _is_wrapped(content, inputs) and not (takes_objects and not content.keys() & set(PAYLOAD_FIELDS)):
        content = payload(content)
    if takes_objects and _is_wrapped(content, inputs):
        content = orjson.dumps(content)
    if isinstance(content, str):
        content = content.encode() if contract.payload == "text" else _decoded(content)
    if isinstance(content, bytes):
        return await _from_file(contract, transform, content, turn)
    if isinstance(content, list) and len(inputs) == 1:
        content = {inputs[0]: content}
    if not isinstance(content, dict):
        raise MalformedBody(f"expected {EXPECTED[contract.payload]}, or numbers for {inputs}")
    item = {}
    for spec in contract.inputs:
        if spec.name in content:
            shape = shape_of(content[spec.name])
            contract.check_input(spec.name, spec.datatype, (1, *shape) if contract.max_batch_size else shape)
            item[spec.name] = tensor_from_json(spec.name, spec.datatype, shape, content[spec.name])
    return item


async def _from_file(
    contract: Contract, transform: Transform | None, file: bytes, turn: asyncio.Semaphore
) -> Item:
    if transform is None:
        raise MalformedBody(f"model '{contract.name}' takes no files: expected numbers for its inputs")
    if not file and contract.payload == "file":  # of a text, none may be one
        raise MalformedBody("expected a file, got nothing")
    try:
        # Decoding a picture takes milliseconds, in which the event loop would answer nobody else.
        values = await in_thread(turn, partial(transform.to_inputs, file))
    except ValueError as error:
        raise MalformedBody(str(error)) from error
    return {
        spec.name: Tensor.of(spec.name, spec.datatype, values[spec.name])
        for spec in contract.inputs
        if spec.name in values
    }


def _join(contract: Contract, items: Sequence[Item]) -> tuple[Tensor, ...]:
    """The items one behind another along the batch axis; the contract's check finds what is missing."""
    if not contract.max_batch_size:
        return tuple(items[0].values())
    joined = []
    for spec in contract.inputs:
        tensors = [item[spec.name] for item in items if spec.name in item]
        if not tensors:
            continue
        if spec.padded:
            tensors = _filled_up(tensors, spec.padded)
        shapes = {tensor.shape for tensor in tensors}
        if len(shapes) > 1 or len(tensors) < len(items):
            got = f"{len(tensors)} of shapes {sorted(shapes)}"
            raise InvalidTensor(spec.name, expected=f"{len(items)} instances of one shape", got=got)
        data = b"".join(tensor.data for tensor in tensors)
        joined.append(Tensor(spec.name, spec.datatype, (len(tensors), *tensors[0].shape), data))
    return tuple(joined)


def _filled_up(tensors: list[Tensor], padded: Padded) -> list[Tensor]:
    """Items of any sizes along the padded axis, all as long as the longest of them."""
    if any(len(tensor.shape) <= padded.axis for tensor in tensors):
        return tensors  # of no shape that the contract has, which its check tells
    longest = max(tensor.shape[padded.axis] for tensor in tensors)
    filled = []
    for tensor in tensors:
        more = [(0, 0)] * len(tensor.shape)
        more[padded.axis] = (0, longest - tensor.shape[padded.axis])
        values = np.pad(tensor.numpy(), more, constant_values=padded.value)
        filled.append(Tensor.of(tensor.name, tensor.datatype, values))
    return filled


def _is_wrapped(content: Any, inputs: Sequence[str]) -> bool:
    """Whether it is an object whose keys are no inputs: one around the payload, or the payload itself."""
    return isinstance(content, dict) and not content.keys() & set(inputs)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error, or text that is not ASCII
        raise MalformedBody(f"expected a file in base64, got other text: {error}") from error


def _values(tensor: Tensor) -> NDArray[Any]:
    if tensor.datatype != "BYTES":
        return tensor.numpy()
    texts = [item.decode("utf-8", "replace") for item in split_bytes(tensor)]
    return np.array(texts, dtype=object).reshape(tensor.shape)


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value).tolist() for name, value in item.items()}
