"""Server reflection, v1 and v1alpha, with the names that clients know.

Our messages have packages of their own (`inferway.oip`); a description that named them would lead a client to
a service that is not there. So the descriptions are copies, in a pool of their own, with the real package.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from functools import cache
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gateway.errors import MalformedBody
from gateway.protocols.grpc_calls import failed, parsed
from gateway.protocols.grpc_methods import Context, Method, Methods
from services.protocol import open_inference_pb2, tfserving_pb2, torchserve_pb2

V1ALPHA = "grpc.reflection.v1alpha"
V1 = "grpc.reflection.v1"
METHOD = "ServerReflectionInfo"

_FILES = (
    (open_inference_pb2.DESCRIPTOR, "inferway.oip", "inference"),
    # The server has its tensors in another package, `tensorflow`; the bytes are the same.
    (tfserving_pb2.DESCRIPTOR, "inferway.tfserving", "tensorflow.serving"),
    (torchserve_pb2.DESCRIPTOR, "inferway.torchserve", "org.pytorch.serve.grpc.inference"),
    (health_pb2.DESCRIPTOR, "", ""),
    (reflection_pb2.DESCRIPTOR, "", ""),
    (reflection_pb2.DESCRIPTOR, "v1alpha", "v1"),
)
"""The files whose services there are, the package that each is in, and the one that clients know."""


@cache
def methods() -> Methods:
    """Reflection of every service, and of itself."""
    pool = DescriptorPool()
    services = []
    for descriptor, old, new in _FILES:
        for imported in descriptor.dependencies:
            pool.AddSerializedFile(imported.serialized_pb)
        file = _renamed(descriptor.serialized_pb, old, new)
        pool.AddSerializedFile(file.SerializeToString())
        services += [f"{file.package}.{service.name}" for service in file.service]
    servicer: Any = reflection.aio.ReflectionServicer(services, pool=pool)

    async def call(messages: AsyncIterator[bytes], context: Context) -> AsyncGenerator[bytes, None]:
        questions = (parsed(reflection_pb2.ServerReflectionRequest, data) async for data in messages)
        try:
            async for answer in servicer.ServerReflectionInfo(questions, context):
                yield answer.SerializeToString()
        except MalformedBody as error:
            raise failed(error) from None

    # The messages of v1 are those of v1alpha, byte for byte.
    paths = (f"/{package}.ServerReflection/{METHOD}" for package in (V1ALPHA, V1))
    return dict.fromkeys(paths, Method(call, is_streamed=True))


def _renamed(serialized: bytes, old: str, new: str) -> FileDescriptorProto:
    """A file's description, with `new` for `old` in the names of file, package and types."""
    description = FileDescriptorProto.FromString(serialized)
    if not old:
        return description
    text = text_format.MessageToString(description).replace(old, new)
    return text_format.Parse(text, FileDescriptorProto())
