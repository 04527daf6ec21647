"""The JSON in front of binary tensors, by its bytes: a client sends the same again and again.

It names tensors, shapes and sizes, and what differs from request to request stands behind it. So what was
read and found right once is right again for a body of the same length.
"""

from collections.abc import Mapping
from typing import NamedTuple

from gateway.contract import Contract
from gateway.inference import Parameter, Tensor
from gateway.protocols.oip_request import OipBody, OutputForm, read_infer_body

HEAD_BYTES = 1024
"""The longest JSON that is kept."""
KNOWN = 1024
"""So many are kept; one more, and all are forgotten."""
_MAX_DIGITS = 4


class _Head(NamedTuple):
    inputs: tuple[tuple[str, str, tuple[int, ...], int], ...]
    forms: Mapping[str, OutputForm]
    binary_output: bool
    parameters: Mapping[str, Parameter]


class Heads:
    """Those of one configuration's contracts."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes, int], _Head] = {}

    def read(self, body: bytes, header_length: bytes | None, contract: Contract) -> OipBody:
        """As `read_infer_body`, errors included."""
        length = 0
        if header_length is not None and len(header_length) <= _MAX_DIGITS and header_length.isdigit():
            length = int(header_length)
        if not 0 < length <= min(HEAD_BYTES, len(body)):
            return read_infer_body(body, header_length, contract)
        key = (contract.name, body[:length], len(body))
        head = self._known.get(key)
        if head is None:
            read = read_infer_body(body, header_length, contract)
            self._keep(key, read)
            return read
        view = memoryview(body)
        inputs = []
        for name, datatype, shape, size in head.inputs:
            inputs.append(Tensor(name, datatype, shape, view[length : length + size]))
            length += size
        return OipBody(tuple(inputs), head.forms, head.binary_output, head.parameters)

    def _keep(self, key: tuple[str, bytes, int], read: OipBody) -> None:
        """Keep what is in no way the request's own: neither an id, nor values in the JSON."""
        if read.id or not all(isinstance(tensor.data, memoryview) for tensor in read.inputs):
            return
        if len(self._known) >= KNOWN:
            self._known.clear()
        inputs = tuple([(each.name, each.datatype, each.shape, len(each.data)) for each in read.inputs])
        self._known[key] = _Head(inputs, read.forms, read.binary_output, read.parameters)
