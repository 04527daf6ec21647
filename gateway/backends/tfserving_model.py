"""What a TF Serving says of a model, held against the contract: the signature that is asked for."""

from collections.abc import Iterator, Mapping

from grpc import StatusCode

from gateway.backends import CannotServe, engine_model_name
from gateway.backends.grpc_channel import GrpcChannel, parse
from gateway.backends.served_tensors import ServedTensor, check_served
from gateway.contract import Contract
from gateway.http2.call import CallFailed
from gateway.tensor_proto import oip_datatype
from services.protocol.tfserving_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    ModelSpec,
    SignatureDefMap,
    TensorInfo,
)

SIGNATURE = "serving_default"
"""What the export of every model names its one signature."""
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
FIELD = "signature_def"
"""The metadata that it has of a model, the only ones."""
TIMEOUT_SECONDS = 2.0
"""A server that does not tell within this is not ready."""
_DOES_NOT_TELL = frozenset({StatusCode.UNIMPLEMENTED, StatusCode.INVALID_ARGUMENT})
"""From a server, or a proxy, without the method, and of a servable that has no signatures."""


def model_spec(model: str, version: str, variant: str) -> ModelSpec:
    """How TF Serving is asked for a version of a variant."""
    spec = ModelSpec(name=engine_model_name(model, variant), signature_name=SIGNATURE)
    spec.version.value = int(version)
    return spec


async def check_model(channel: GrpcChannel, contract: Contract, spec: ModelSpec, *, where: str) -> None:
    """See that TF Serving serves what the contract says; it may not tell.

    Args:
        channel: to it.
        contract: of the model.
        spec: of the version in TF Serving.
        where: its address, for the message.

    Raises:
        CannotServe: it serves something else.
        CallFailed, BadReply: it does not answer.
    """
    asked = GetModelMetadataRequest(metadata_field=[FIELD])
    asked.model_spec.CopyFrom(spec)
    try:
        reply = await channel.method(METADATA)(asked.SerializeToString(), timeout=TIMEOUT_SECONDS)
    except CallFailed as error:
        if error.code in _DOES_NOT_TELL:
            return
        raise
    # Not by Any.Unpack, which knows the type by the name of its package, and that is TF Serving's own.
    packed = parse(GetModelMetadataResponse, reply).metadata[FIELD].value
    signatures = parse(SignatureDefMap, packed).signature_def
    if not signatures:
        return
    place = f"TF Serving at {where}, model '{spec.name}' version {spec.version.value}"
    if SIGNATURE not in signatures:
        mend = f"known there: {', '.join(sorted(signatures))}; export it under that name"
        raise CannotServe(f"{place}: it has no signature '{SIGNATURE}'; {mend}")
    signature, is_batched = signatures[SIGNATURE], contract.max_batch_size > 0
    inputs, outputs = (_tensors(infos, is_batched) for infos in (signature.inputs, signature.outputs))
    check_served(contract, inputs, outputs, where=place)


def _tensors(infos: Mapping[str, TensorInfo], is_batched: bool) -> Iterator[ServedTensor]:
    for name, info in infos.items():
        shape = info.tensor_shape
        sizes = tuple([dim.size for dim in shape.dim])
        if is_batched and sizes:
            # Of a TFLite model it has the batch that was converted, mostly 1, and takes any.
            sizes = (-1, *sizes[1:])
        yield ServedTensor(name, oip_datatype(info.dtype), None if shape.unknown_rank else sizes)
