"""Server reflection, v1 and v1alpha, with the names that clients know.

Our messages have packages of their own (`inferway.oip`); a description that named them would lead a client to
a service that is not there. So the descriptions are copies, in a pool of their own, with the real package.
"""

import grpc
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

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


def enable_reflection(server: grpc.aio.Server) -> None:
    """Add reflection of every service, and of itself, to a server."""
    pool = DescriptorPool()
    services = []
    for descriptor, old, new in _FILES:
        for imported in descriptor.dependencies:
            pool.AddSerializedFile(imported.serialized_pb)
        file = _renamed(descriptor.serialized_pb, old, new)
        pool.AddSerializedFile(file.SerializeToString())
        services += [f"{file.package}.{service.name}" for service in file.service]
    servicer = reflection.aio.ReflectionServicer(services, pool=pool)
    # The messages of v1 are those of v1alpha, byte for byte.
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(f"{package}.ServerReflection", {METHOD: method})
            for package in (V1ALPHA, V1)
        ]
    )


def _renamed(serialized: bytes, old: str, new: str) -> FileDescriptorProto:
    """A file's description, with `new` for `old` in the names of file, package and types."""
    description = FileDescriptorProto.FromString(serialized)
    if not old:
        return description
    text = text_format.MessageToString(description).replace(old, new)
    return text_format.Parse(text, FileDescriptorProto())
