"""Joining: requests of one pool become one along the batch axis, and its answer becomes theirs again.

Two requests join when whatever reaches the engine is the same but for rows: tensors' names, datatypes and
shapes without the batch axis, outputs, parameters. Along an axis that the contract pads, sizes may differ by
less than a factor of two: filled up to the longest, a row is then never more than half padding. An output
with an open dimension may have followed the padding, and nobody could tell which part to cut off: such a
model's inputs join by equal sizes only.
"""

from collections.abc import Hashable, Sequence
from math import prod

import numpy as np

from gateway.contract import Contract
from gateway.inference import ITEM_BYTES, NUMPY_TYPES, InferRequest, InferResponse, Tensor
from gateway.specs import Padded


class Joining:
    """How the requests of one model join.

    Args:
        contract: of the model; `can_join` must hold.
    """

    def __init__(self, contract: Contract) -> None:
        is_open = any(-1 in spec.shape for spec in contract.outputs)
        self._padded: dict[str, Padded] = {
            spec.name: spec.padded for spec in contract.inputs if spec.padded and not is_open
        }
        self._reply_row_bytes = sum(
            prod(abs(size) for size in spec.shape) * ITEM_BYTES[spec.datatype] for spec in contract.outputs
        )

    def key(self, request: InferRequest) -> Hashable:
        """Requests with equal keys join.

        Those that may not go to the same endpoints do not: an attempt has one endpoint. Nor does a hedge join
        a first attempt, since the balancer judges the two differently.
        """
        parameters = request.parameters and tuple(
            (name, type(value), value) for name, value in sorted(request.parameters.items())
        )
        return (
            tuple([(tensor.name, tensor.datatype, *self._shape(tensor)) for tensor in request.inputs]),
            request.outputs,
            request.excluded,
            bool(request.picked),
            parameters or (),
        )

    def size_bytes(self, request: InferRequest) -> int:
        """What a request adds to a joined message or to its reply, whichever is more, at most."""
        sent = sum([len(tensor.data) for tensor in request.inputs])
        most = 2 * sent if self._padded else sent
        return max(most, request.inputs[0].shape[0] * self._reply_row_bytes)

    def join(self, requests: Sequence[InferRequest]) -> InferRequest:
        """One request with the rows of all, each behind the other's, for requests whose keys are equal.

        Its deadline is the latest of theirs; the id of none is in it.
        """
        first = requests[0]
        inputs = [
            self._joined([request.inputs[index] for request in requests])
            for index in range(len(first.inputs))
        ]
        return InferRequest(
            first.model,
            tuple(inputs),
            max([request.deadline for request in requests]),
            version=first.version,
            variant=first.variant,
            outputs=first.outputs,
            parameters=first.parameters,
            excluded=first.excluded,
            picked=_PickedForAll(requests),
        )

    def _shape(self, tensor: Tensor) -> tuple[int, ...]:
        """What the shapes of two inputs must have in common: of a padded axis the power of two below it."""
        shape = tensor.shape[1:]
        padded = self._padded.get(tensor.name)
        if padded is None:
            return shape
        axis = padded.axis
        return (*shape[:axis], -shape[axis].bit_length(), *shape[axis + 1 :])

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        first = parts[0]
        rows = sum([part.shape[0] for part in parts])
        padded = self._padded.get(first.name)
        if padded is not None and any(part.shape[1:] != first.shape[1:] for part in parts):
            return _filled_up(parts, rows, padded)
        data = b"".join([part.data for part in parts])
        return Tensor(first.name, first.datatype, (rows, *first.shape[1:]), data)


def can_join(contract: Contract) -> bool:
    """Whether requests of a model join at all: it has a batch axis, and its answers can be cut by bytes."""
    return contract.max_batch_size > 1 and all(spec.datatype != "BYTES" for spec in contract.outputs)


def split(response: InferResponse, rows: Sequence[int]) -> list[InferResponse]:
    """Cut the answer to joined requests into those of each.

    Args:
        response: the first dimension of each output is the sum of `rows`; none is BYTES.
        rows: of each request, in the order in which they were joined.
    """
    total = sum(rows)
    cuts = [(tensor, memoryview(tensor.data), len(tensor.data) // total) for tensor in response.outputs]
    answers = []
    start = 0
    for count in rows:
        end = start + count
        outputs = [
            # A copy: a view of a few bytes would keep the whole batch's alive, in a cache for long.
            Tensor(
                tensor.name,
                tensor.datatype,
                (count, *tensor.shape[1:]),
                bytes(data[start * width : end * width]),
            )
            for tensor, data, width in cuts
        ]
        answers.append(
            InferResponse(
                response.model,
                response.version,
                tuple(outputs),
                response.variant,
                backend=response.backend,
                endpoint=response.endpoint,
                parameters=response.parameters,
            )
        )
        start = end
    return answers


class _PickedForAll(list[str]):
    """Tells every request of a batch to which endpoint it goes, as the balancer tells the batch.

    Args:
        requests: of the batch; all or none of them have an endpoint already.
    """

    def __init__(self, requests: Sequence[InferRequest]) -> None:
        super().__init__(requests[0].picked or ())
        self._requests = requests

    def append(self, endpoint: str, /) -> None:
        """The balancer has picked."""
        super().append(endpoint)
        for request in self._requests:
            if request.picked is not None:
                request.picked.append(endpoint)


def _filled_up(parts: Sequence[Tensor], rows: int, padded: Padded) -> Tensor:
    """Tensors that differ along a padded axis, each filled up to the longest."""
    axis = padded.axis + 1
    first = parts[0]
    longest = max(part.shape[axis] for part in parts)
    shape = (rows, *first.shape[1:axis], longest, *first.shape[axis + 1 :])
    joined = np.full(shape, padded.value, NUMPY_TYPES[first.datatype])
    start = 0
    for part in parts:
        end = start + part.shape[0]
        place = (slice(start, end), *[slice(None)] * padded.axis, slice(part.shape[axis]))
        joined[place] = part.numpy()
        start = end
    return Tensor(first.name, first.datatype, shape, joined.tobytes())
