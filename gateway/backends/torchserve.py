"""TorchServe 0.12 over its gRPC, and its habits: https://github.com/pytorch/serve.

- A call that is cancelled, or whose gRPC deadline passes, while its reply is being written can kill the
  worker and with it a whole batch. So a caller who leaves only stops listening: the call itself runs on.
- `Ping` stays Healthy while the only worker is dead: readiness counts READY workers in `DescribeModel`.
- Status codes mislead (an unknown model is INTERNAL, a full queue too): the text decides.
- It closes connections that are pinged while idle (GOAWAY, too_many_pings): no keepalive.

Tensors travel as services/torchserve/handler.py describes. A model without a contract is a team's own
archive: its inputs and its reply are bytes that mean nothing to the gateway.
"""

from collections.abc import Mapping
from typing import ClassVar

import orjson
from google.protobuf.empty_pb2 import Empty
from grpc import StatusCode

from gateway import tensor_frame
from gateway.backends import engine_model_name
from gateway.backends.channel_tls import ChannelTls
from gateway.backends.grpc_channel import GrpcChannel, parse
from gateway.backends.unbroken_calls import CALL_SECONDS, UnbrokenCalls
from gateway.contract import Contract, check_reply
from gateway.errors import (
    BadReply,
    EndpointBusy,
    EndpointFailed,
    EndpointUnreachable,
    HandlerFailed,
    InferwayError,
    InvalidTensor,
    ModelFailed,
    RejectedByBackend,
    VersionNotFound,
)
from gateway.http2.call import CallFailed
from gateway.inference import InferRequest, InferResponse, Tensor, split_bytes
from gateway.wire_format import joined, map_entry
from services.protocol.torchserve_pb2 import (
    DescribeModelRequest,
    ManagementResponse,
    PredictionResponse,
    PredictionsRequest,
)

INFERENCE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService"
PREDICTIONS, PING = f"{INFERENCE}/Predictions", f"{INFERENCE}/Ping"
MANAGEMENT = "/org.pytorch.serve.grpc.management.ManagementAPIsService"
DESCRIBE_MODEL = f"{MANAGEMENT}/DescribeModel"
READY_TIMEOUT_SECONDS = 2.0
"""A server that does not describe its models within this is not ready."""


class TorchServe:
    """One TorchServe: a Backend.

    Args:
        address: `host:port` of its inference gRPC.
        management_address: `host:port` of its management gRPC.
        contracts: the models' contracts, by name; any other model is passed through.
        max_request_bytes: the tensors of the largest request.
        tls: how both addresses are secured, if they are.
    """

    label: ClassVar[str] = "torchserve"

    def __init__(
        self,
        address: str,
        *,
        management_address: str,
        contracts: Mapping[str, Contract],
        max_request_bytes: int,
        tls: ChannelTls | None = None,
    ) -> None:
        self._contracts = contracts
        self._inference = GrpcChannel(address, max_request_bytes=max_request_bytes, tls=tls)
        self._management = GrpcChannel(management_address, max_request_bytes=max_request_bytes, tls=tls)
        self._calls = UnbrokenCalls(self._inference.withdraw)

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request.

        Raises:
            EndpointUnreachable: there is no connection.
            EndpointBusy: its queue is full, or it has no worker at this moment.
            EndpointFailed: it or its worker broke, or it does not hold the model.
            ModelFailed: the model raised.
            BadReply: it said OK with the wrong tensors.
            RejectedByBackend: it blames the input.
            VersionNotFound: a model without a contract has no such version.
            HandlerFailed: a handler without a contract raised.
        """
        contract = self._contracts.get(request.model)
        message = PredictionsRequest(
            model_name=self._engine_name(request.model, request.variant), model_version=request.version
        )
        fields = _raw_input(request) if contract is None else _tensor_input(request)
        number = PredictionsRequest.INPUT_FIELD_NUMBER
        sent = joined(message, (map_entry(number, name, data) for name, data in fields.items()))
        predict = self._inference.method(PREDICTIONS)
        try:
            reply = parse(PredictionResponse, await self._calls(predict(sent, timeout=CALL_SECONDS)))
        except CallFailed as error:
            raise self._translate(error, request) from error
        if contract is None:
            outputs: tuple[Tensor, ...] = (Tensor.of_bytes("prediction", (1,), [reply.prediction]),)
        else:
            outputs = _read(contract, request, reply.prediction)
        return InferResponse(
            request.model, request.version, outputs, variant=request.variant, backend=self.label
        )

    async def is_ready(self, model: str, version: str, variant: str, /) -> bool:
        """Whether that version has a worker that is READY, behind a server that takes requests."""
        asked = DescribeModelRequest(model_name=self._engine_name(model, variant), model_version=version)
        describe = self._management.method(DESCRIBE_MODEL)
        # Ping says little about the workers, but it makes the channel that requests will use connect again.
        ping = self._inference.method(PING)
        try:
            description = await describe(asked.SerializeToString(), timeout=READY_TIMEOUT_SECONDS)
            await ping(Empty().SerializeToString(), timeout=READY_TIMEOUT_SECONDS)
            entries = orjson.loads(parse(ManagementResponse, description).msg)
            return any(worker["status"] == "READY" for entry in entries for worker in entry["workers"])
        except (
            CallFailed,
            BadReply,
            ValueError,
            LookupError,
            TypeError,
        ):  # no answer, or not the expected one
            return False

    async def aclose(self) -> None:
        """Close the connections, after a moment for the calls whose callers have left."""
        await self._calls.aclose()
        await self._inference.aclose()
        await self._management.aclose()

    def _engine_name(self, model: str, variant: str) -> str:
        return engine_model_name(model, variant) if model in self._contracts else model

    def _translate(self, error: CallFailed, request: InferRequest) -> InferwayError:
        """What a failed call means, in the gateway's words."""
        code, details = error.code, error.details
        if "ModelVersionNotFoundException" in details and request.model not in self._contracts:
            known = ["those of its archives in TorchServe"]
            return VersionNotFound(request.model, "version", request.version, known)
        failure: type[InferwayError] = EndpointFailed
        if code is StatusCode.INVALID_ARGUMENT:
            failure = RejectedByBackend
        elif not error.was_sent:
            failure = EndpointUnreachable
        elif "Prediction failed" in details:
            failure = HandlerFailed
        elif "has no worker to serve" in details:
            failure = EndpointBusy
        elif "Received message larger than max" in details:
            failure = BadReply
        return failure(f"TorchServe: {details.partition(chr(10))[0] or code.name}")


def _tensor_input(request: InferRequest) -> dict[str, bytes | memoryview]:
    """Tensors as our handler reads them."""
    inputs = [
        {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape} for tensor in request.inputs
    ]
    header = orjson.dumps({"inputs": inputs, "outputs": request.outputs})
    return {"header": header, **{tensor.name: tensor.data for tensor in request.inputs}}


def _raw_input(request: InferRequest) -> dict[str, bytes | memoryview]:
    """A client's bytes, untouched: each input is BYTES [1] (InvalidTensor when it is not)."""
    fields: dict[str, bytes | memoryview] = {}
    for tensor in request.inputs:
        tensor.check_length()
        if tensor.datatype != "BYTES" or tensor.elements != 1:
            raise InvalidTensor(
                tensor.name, expected="BYTES [1]", got=f"{tensor.datatype} {list(tensor.shape)}"
            )
        (fields[tensor.name],) = split_bytes(tensor)
    return fields


def _read(contract: Contract, request: InferRequest, prediction: bytes) -> tuple[Tensor, ...]:
    """The tensors of our handler's reply, or the error that it put there for this request alone."""
    try:
        header, outputs = tensor_frame.unpack(prediction)
        if "error" not in header:
            check_reply(contract, request, outputs)
            return outputs
    except (tensor_frame.FrameError, InvalidTensor) as error:
        raise BadReply(f"TorchServe answered wrongly: {error}") from error
    failure = RejectedByBackend if header.get("blame") == "input" else ModelFailed
    raise failure(f"TorchServe: {header['error']}")
