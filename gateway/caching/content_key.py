"""The content key: equal for two requests exactly when one answer is right for both.

BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs) over a canonical form in which every field is preceded by
its length, so that no two different requests can spell the same bytes. `id`, deadline and the parameters that
the gateway consumes are not in it.
"""

import struct
from functools import lru_cache

from blake3 import blake3

from gateway.inference import InferRequest, Parameter

KEY_BYTES = 32
JOINED_BYTES = 64 * 1024
"""Data up to this size is hashed in one step with what stands around it: to copy 3 kB takes 0.1 us, and each
further step 0.5."""
KNOWN = 1024
"""Beginnings and ends of canonical forms that are kept: those of a model's requests are mostly the same."""

_length = struct.Struct("<Q").pack


def content_key(request: InferRequest, version: str, variant: str, build_digest: bytes) -> bytes:
    """32 bytes for a request.

    Args:
        request: as asked; inputs count by name, so that their order does not matter.
        version: the concrete one that it stands for.
        variant: the same.
        build_digest: `Contract.build_digest` of that version and variant.
    """
    inputs = request.inputs
    parts: list[bytes | memoryview] = [build_digest, _begin(request.model, version, variant, len(inputs))]
    data_bytes = 0
    for tensor in inputs if len(inputs) == 1 else sorted(inputs, key=lambda tensor: tensor.name):
        data = tensor.data
        data_bytes += len(data)
        parts += _before_data(tensor.name, tensor.datatype, tensor.shape), _length(len(data)), data
    parts.append(_end(request.outputs))
    if request.parameters:
        for name, value in sorted(request.parameters.items()):
            parts.append(_joined(name.encode(), _parameter(value)))
    if data_bytes <= JOINED_BYTES:
        return blake3(b"".join(parts)).digest(KEY_BYTES)
    hasher = blake3()
    for part in parts:
        hasher.update(part)
    return hasher.digest(KEY_BYTES)


@lru_cache(KNOWN)
def _begin(model: str, version: str, variant: str, inputs: int) -> bytes:
    return _joined(model.encode(), version.encode(), variant.encode(), _length(inputs))


@lru_cache(KNOWN)
def _before_data(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    return _joined(name.encode(), datatype.encode(), struct.pack(f"<{len(shape)}q", *shape))


@lru_cache(KNOWN)
def _end(outputs: tuple[str, ...]) -> bytes:
    return _joined(_length(len(outputs)), *(name.encode() for name in outputs))


def _joined(*fields: bytes) -> bytes:
    return b"".join(part for field in fields for part in (_length(len(field)), field))


def _parameter(value: Parameter) -> bytes:
    """The type goes first: 1, 1.0, True and "1" are four different parameters."""
    return f"{type(value).__name__}:{value!r}".encode()
