"""The content key: equal for two requests exactly when one answer is right for both.

BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs) over a canonical form in which every field is preceded by
its length, so that no two different requests can spell the same bytes. `id`, deadline and the parameters that
the gateway consumes are not in it.
"""

import struct
from collections.abc import Iterator

from blake3 import blake3

from gateway.inference import InferRequest, Parameter

KEY_BYTES = 32


def content_key(request: InferRequest, version: str, variant: str, build_digest: bytes) -> bytes:
    """32 bytes for a request.

    Args:
        request: as asked; inputs count by name, so that their order does not matter.
        version: the concrete one that it stands for.
        variant: the same.
        build_digest: `Contract.build_digest` of that version and variant.
    """
    hasher = blake3(build_digest)
    for field in _fields(request, version, variant):
        hasher.update(struct.pack("<Q", len(field)))
        hasher.update(field)
    return hasher.digest(KEY_BYTES)


def _fields(request: InferRequest, version: str, variant: str) -> Iterator[bytes | memoryview]:
    yield from (request.model.encode(), version.encode(), variant.encode())
    yield _number(len(request.inputs))
    for tensor in sorted(request.inputs, key=lambda tensor: tensor.name):
        yield tensor.name.encode()
        yield tensor.datatype.encode()
        yield struct.pack(f"<{len(tensor.shape)}q", *tensor.shape)
        yield tensor.data
    yield _number(len(request.outputs))
    yield from (name.encode() for name in request.outputs)
    for name, value in sorted(request.parameters.items()):
        yield name.encode()
        yield _parameter(value)


def _number(value: int) -> bytes:
    return struct.pack("<Q", value)


def _parameter(value: Parameter) -> bytes:
    """The type goes first: 1, 1.0, True and "1" are four different parameters."""
    return f"{type(value).__name__}:{value!r}".encode()
