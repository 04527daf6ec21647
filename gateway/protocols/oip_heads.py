"""The JSON around tensors' values, by its bytes: a client sends the same again and again.

It names tensors, shapes and sizes, and what differs from request to request stands behind it, or was cut out
of it (`json_numbers`). So what was read and found right once is right again for as many bytes, or numbers.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.contract import Contract
from gateway.inference import Parameter, Tensor
from gateway.protocols.json_numbers import NO_NUMBERS, cut_out, tensor_bytes
from gateway.protocols.oip_request import OipBody, OutputForm, read_content, read_infer_body
from gateway.repeats import Repeats

HEAD_BYTES = 1024
"""The longest JSON that is kept."""
KNOWN = 1024
"""So many are kept; one more, and all are forgotten."""
LONG_BYTES = 6144
"""A body from here on, some 300 numbers, is read faster by its lists although the rest of it is not known."""
_MAX_DIGITS = 9
_NOTHING = memoryview(b"")


_Key = tuple[str, bytes, int]


class _Head(NamedTuple):
    inputs: tuple[tuple[str, str, tuple[int, ...], int], ...]
    forms: Mapping[str, OutputForm]
    binary_output: bool
    parameters: Mapping[str, Parameter]


class Heads:
    """Those of one configuration's contracts."""

    def __init__(self) -> None:
        # By model, JSON, and the length of a body whose values stand behind that; 0: they were cut out of it.
        self._known: dict[_Key, _Head] = {}
        self._came = Repeats(KNOWN)

    def read(self, body: bytes, header_length: bytes | None, contract: Contract) -> OipBody:
        """As `read_infer_body`, errors included."""
        length = 0
        if header_length is not None and len(header_length) <= _MAX_DIGITS and header_length.isdigit():
            length = int(header_length)
        if header_length is None or 0 < length == len(body):
            return self._read_json(body, contract)
        if not 0 < length <= min(HEAD_BYTES, len(body)):
            return read_infer_body(body, header_length, contract)
        key = (contract.name, body[:length], len(body))
        head = self._known.get(key)
        if head is None:
            read = read_infer_body(body, header_length, contract)
            if all(isinstance(tensor.data, memoryview) for tensor in read.inputs):
                self._keep(key, read)
            return read
        view = memoryview(body)
        inputs = []
        for name, datatype, shape, size in head.inputs:
            inputs.append(Tensor(name, datatype, shape, view[length : length + size]))
            length += size
        return OipBody(tuple(inputs), head.forms, head.binary_output, head.parameters)

    def _read_json(self, body: bytes, contract: Contract) -> OipBody:
        cut = cut_out(body)
        if cut is None:
            return read_infer_body(body, None, contract)
        key = (contract.name, cut.skeleton, 0)
        head = self._known.get(key)
        if head is not None:
            inputs = _tensors(head, cut.lists)
            if inputs is None:
                return read_infer_body(body, None, contract)
            return OipBody(inputs, head.forms, head.binary_output, head.parameters)
        comes_again = self._came.has(key)  # what has an id of its own does not, and is not worth more work
        content = cut.content() if comes_again or len(body) >= LONG_BYTES else None
        if content is None:
            return read_infer_body(body, None, contract)
        read = read_content(content, _NOTHING, contract)
        if comes_again and len(cut.skeleton) <= HEAD_BYTES:
            self._keep(key, read)
        return read

    def _keep(self, key: _Key, read: OipBody) -> None:
        """Keep what is in no way the request's own: neither an id, nor values."""
        if read.id:
            return
        if len(self._known) >= KNOWN:
            self._known.clear()
        inputs = tuple([(each.name, each.datatype, each.shape, len(each.data)) for each in read.inputs])
        self._known[key] = _Head(inputs, read.forms, read.binary_output, read.parameters)


def _tensors(head: _Head, lists: Sequence[memoryview]) -> tuple[Tensor, ...] | None:
    """The inputs; None when a list is another than was found right."""
    tensors = []
    for (name, datatype, shape, size), text in zip(head.inputs, lists, strict=True):
        try:
            data = tensor_bytes(datatype, text)
        except NO_NUMBERS:
            return None
        if len(data) != size:
            return None
        tensors.append(Tensor(name, datatype, shape, data))
    return tuple(tensors)
