"""The shared vocabulary: Tensor, InferRequest, InferResponse.

Terms are those of the Open Inference Protocol (OIP, https://github.com/kserve/open-inference-protocol).
Tensor bytes are always in OIP's raw form: row-major, little-endian, no padding; BYTES elements each carry
a 4-byte little-endian length before them. Nothing here knows a protocol, a backend or the network.

None of these is changed once another may hold it, though only `PoolKey` is frozen: to make a frozen request
takes four times as long as a plain one, to `replace` a field eight times as long as a copy that names all.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.errors import InvalidTensor

Parameter = bool | int | float | str
"""A parameter's value, as OIP allows it."""

NO_PARAMETERS: Mapping[str, Parameter] = MappingProxyType({})


def _no_parameters() -> Mapping[str, Parameter]:
    return NO_PARAMETERS


NUMPY_TYPES: Mapping[str, np.dtype[np.generic]] = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        "UINT8": np.dtype("<u1"),
        "UINT16": np.dtype("<u2"),
        "UINT32": np.dtype("<u4"),
        "UINT64": np.dtype("<u8"),
        "INT8": np.dtype("<i1"),
        "INT16": np.dtype("<i2"),
        "INT32": np.dtype("<i4"),
        "INT64": np.dtype("<i8"),
        "FP16": np.dtype("<f2"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
    },
)
"""OIP datatype to numpy type. BYTES and BF16 have none: their bytes pass through."""

ITEM_BYTES: Mapping[str, int] = MappingProxyType(
    {**{name: dtype.itemsize for name, dtype in NUMPY_TYPES.items()}, "BF16": 2},
)
"""Bytes of one element of each datatype of fixed size."""


@dataclass(slots=True, unsafe_hash=True)
class Tensor:
    """A named tensor in OIP's raw form.

    Attributes:
        name: as the model's contract has it.
        datatype: an OIP datatype (`FP32`, `INT64`, `BYTES`, ...).
        shape: every dimension known; the first is the batch where the model batches.
        data: raw bytes (see the module's docstring).
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview

    @property
    def elements(self) -> int:
        """How many elements the shape promises (1 for a scalar)."""
        return prod(self.shape)

    def check_length(self) -> None:
        """See that the bytes are as many as shape and datatype say.

        Raises:
            InvalidTensor: too few, too many, or a BYTES prefix that runs past the end.
        """
        if self.datatype == "BYTES":
            elements = self.elements
            # No further than it takes to know: megabytes may hold millions of empty elements.
            count = sum(1 for _ in zip(range(elements + 1), split_bytes(self), strict=False))
            if count != elements:
                got = f"{count} elements" if count < elements else f"at least {count} elements"
                raise InvalidTensor(self.name, expected=f"{elements} BYTES elements", got=got)
            return
        item = ITEM_BYTES.get(self.datatype)
        if item is None:
            raise InvalidTensor(self.name, expected="an OIP datatype", got=f"'{self.datatype}'")
        expected = self.elements * item
        if len(self.data) != expected:
            raise InvalidTensor(
                self.name,
                expected=f"{expected} bytes for {self.datatype} {list(self.shape)}",
                got=f"{len(self.data)} bytes",
            )

    def numpy(self) -> NDArray[np.generic]:
        """A read-only view of the data, shaped; not for BYTES and BF16 (raises KeyError)."""
        return np.frombuffer(self.data, NUMPY_TYPES[self.datatype]).reshape(self.shape)

    @classmethod
    def of(cls, name: str, datatype: str, values: NDArray[np.generic]) -> "Tensor":
        """A tensor from a numpy value, cast to `datatype`."""
        contiguous = np.ascontiguousarray(values, NUMPY_TYPES[datatype])
        return cls(name, datatype, values.shape, contiguous.tobytes())

    @classmethod
    def of_bytes(cls, name: str, shape: tuple[int, ...], items: Iterable[bytes]) -> "Tensor":
        """A BYTES tensor from its elements, in row-major order."""
        return cls(name, "BYTES", shape, b"".join(struct.pack("<I", len(item)) + item for item in items))


def split_bytes(tensor: Tensor) -> Iterable[bytes]:
    """The elements of a BYTES tensor, by walking the length prefixes.

    Raises:
        InvalidTensor: a prefix runs past the end of the data.
    """
    data = memoryview(tensor.data)
    position = 0
    while position < len(data):
        head = data[position : position + 4]
        length = struct.unpack("<I", head)[0] if len(head) == 4 else 0  # noqa: PLR2004 - a uint32
        position += 4 + length
        if len(head) < 4 or position > len(data):  # noqa: PLR2004
            raise InvalidTensor(
                tensor.name,
                expected="BYTES elements, each after its 4-byte length",
                got=f"a length that runs past the {len(data)} bytes sent",
            )
        yield bytes(data[position - length : position])


@dataclass(slots=True)
class InferRequest:
    """One inference, as a client asked for it and as the stages have completed it.

    Attributes:
        model: the model's name.
        inputs: the input tensors.
        deadline: the point of `time.monotonic()` at which the caller has gone.
        version: the version asked for; empty until Resolved picks one.
        label: a version's label asked for instead (`stable`), else empty.
        variant: the variant asked for; empty until Resolved picks one.
        outputs: the outputs wanted, in this order; empty means all.
        parameters: what the backend is to see; the gateway's own parameters are not among them.
        id: the caller's own id, returned with the answer and part of no key.
        sticky: what keeps its caller on one side of a canary (`x-inferway-sticky`); part of no key.
        key: the content key, set by Resolved; empty means that the answer must not be cached or shared.
        excluded: names of the endpoints that this request already failed at, or is under way at.
        picked: where the balancer writes the names of the endpoints that it sends the request to, when given.
        priority: 1 is the highest, larger is lower, 0 is the default; part of no key.
    """

    model: str
    inputs: tuple[Tensor, ...]
    deadline: float
    version: str = ""
    label: str = ""
    variant: str = ""
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=_no_parameters)
    id: str = ""
    sticky: str = ""
    key: bytes = b""
    excluded: frozenset[str] = frozenset()
    picked: list[str] | None = field(default=None, compare=False)
    priority: int = 0
    _pool: "PoolKey | None" = field(default=None, init=False, repr=False, compare=False)

    @property
    def pool(self) -> "PoolKey":
        """Which pool can answer, once Resolved has run; without a contract, one for all versions."""
        if self._pool is None:
            self._pool = PoolKey(self.model, self.version if self.variant else "", self.variant)
        return self._pool

    def resolved(self, version: str, variant: str, key: bytes) -> "InferRequest":
        """The same request, for a concrete version and variant."""
        return InferRequest(
            self.model,
            self.inputs,
            self.deadline,
            version,
            self.label,
            variant,
            self.outputs,
            self.parameters,
            self.id,
            self.sticky,
            key,
            self.excluded,
            self.picked,
            self.priority,
        )

    def until(self, deadline: float) -> "InferRequest":
        """The same request, whose caller will have gone at `deadline`."""
        return InferRequest(
            self.model,
            self.inputs,
            deadline,
            self.version,
            self.label,
            self.variant,
            self.outputs,
            self.parameters,
            self.id,
            self.sticky,
            self.key,
            self.excluded,
            self.picked,
            self.priority,
        )

    def without(self, *endpoints: str) -> "InferRequest":
        """The same request, for any endpoint but these."""
        return replace(self, excluded=self.excluded.union(endpoints))


class PoolKey(NamedTuple):
    """What one pool serves."""

    model: str
    version: str
    variant: str


@dataclass(slots=True)
class InferResponse:
    """The answer to one request.

    Attributes:
        model: the model's name.
        version: the concrete version that answered.
        outputs: the tensors, in the order asked for, else in the contract's.
        variant: the variant that answered.
        id: the caller's own id.
        backend: the kind of backend that computed it (also when the cache answered).
        endpoint: the endpoint that computed it.
        cache: `memory`, `redis`, `shared` (another request's flight) or `miss`; `off` when not looked up.
        parameters: what the backend said beside the tensors.
        expires_at: when a copy of it must no longer be given, in every cache tier alike; seconds of
            `time.time()`, 0 while no tier has it.
        computed_seconds: how long it took when it was computed, waits included; 0 while no tier has it.
        key: the content key under which a tier has it; empty while none has.
    """

    model: str
    version: str
    outputs: tuple[Tensor, ...]
    variant: str = ""
    id: str = ""
    backend: str = ""
    endpoint: str = ""
    cache: str = "off"
    parameters: Mapping[str, Parameter] = field(default_factory=_no_parameters)
    expires_at: float = 0.0
    computed_seconds: float = 0.0
    key: bytes = field(default=b"", compare=False)

    def by(self, endpoint: str) -> "InferResponse":
        """The same answer, that `endpoint` computed."""
        return InferResponse(
            self.model,
            self.version,
            self.outputs,
            self.variant,
            self.id,
            self.backend,
            endpoint,
            self.cache,
            self.parameters,
            self.expires_at,
            self.computed_seconds,
            self.key,
        )

    def cached(self, cache: str, key: bytes, expires_at: float, computed_seconds: float) -> "InferResponse":
        """The same answer, as a tier gives it or has it."""
        return InferResponse(
            self.model,
            self.version,
            self.outputs,
            self.variant,
            self.id,
            self.backend,
            self.endpoint,
            cache,
            self.parameters,
            expires_at,
            computed_seconds,
            key,
        )
