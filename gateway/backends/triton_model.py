"""What a Triton says of a model, held against the contract: its metadata, and its config for the rest."""

from typing import TypeVar

from google.protobuf.message import Message
from grpc import StatusCode

from gateway.backends.grpc_channel import GrpcChannel, parse
from gateway.backends.served_tensors import ServedTensor, check_served
from gateway.contract import Contract
from gateway.http2.call import CallFailed
from services.protocol.open_inference_pb2 import (
    ModelConfigRequest,
    ModelConfigResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
)

SERVICE = "/inference.GRPCInferenceService"
METADATA, CONFIG = f"{SERVICE}/ModelMetadata", f"{SERVICE}/ModelConfig"
TIMEOUT_SECONDS = 2.0

Answer = TypeVar("Answer", bound=Message)


async def check_model(
    channel: GrpcChannel, contract: Contract, name: str, version: str, *, where: str
) -> None:
    """See that Triton serves what the contract says; another server of the protocol may not tell.

    Args:
        channel: to Triton.
        contract: of the model.
        name: of the model in Triton.
        version: of the model.
        where: Triton's address, for the message.

    Raises:
        CannotServe: it serves something else.
        CallFailed, BadReply: it does not answer.
    """
    asked = {"name": name, "version": version}
    told = await _answer(channel, METADATA, ModelMetadataRequest(**asked), ModelMetadataResponse)
    if not told.outputs:
        return
    config = (await _answer(channel, CONFIG, ModelConfigRequest(**asked), ModelConfigResponse)).config
    inputs, outputs = (
        [ServedTensor(each.name, each.datatype, tuple(each.shape)) for each in tensors]
        for tensors in (told.inputs, told.outputs)
    )
    needed = {spec.name for spec in contract.inputs}
    may_be_left_out = {each.name for each in config.input if each.optional} - needed
    check_served(
        contract,
        [tensor for tensor in inputs if tensor.name not in may_be_left_out],
        outputs,
        where=f"Triton at {where}, model '{name}' version {version}",
        max_batch_size=config.max_batch_size,
    )


async def _answer(channel: GrpcChannel, method: str, request: Message, kind: type[Answer]) -> Answer:
    """The answer to a question; an empty one where the server does not know the question."""
    try:
        reply = await channel.method(method)(request.SerializeToString(), timeout=TIMEOUT_SECONDS)
    except CallFailed as error:
        if error.code is not StatusCode.UNIMPLEMENTED:
            raise
        return kind()
    return parse(kind, reply)
