"""TensorFlow Serving over its PredictionService: https://www.tensorflow.org/tfx/serving/api_docs.

Inputs go as `tensor_content` (for 12 KB some 3 us, against 600 as `float_val`), strings as `string_val`. The
real server answers in typed fields, unless it runs with `--enable_serialization_as_tensor_content`: both are
read.
"""

from collections.abc import Mapping
from typing import ClassVar

from grpc import StatusCode

from gateway.backends.channel_tls import ChannelTls
from gateway.backends.grpc_channel import GrpcChannel, parse, time_left
from gateway.backends.tfserving_model import check_model, model_spec
from gateway.contract import Contract, check_reply
from gateway.errors import (
    BadReply,
    EndpointBusy,
    EndpointFailed,
    EndpointUnreachable,
    InferwayError,
    InvalidTensor,
    ModelFailed,
    RejectedByBackend,
)
from gateway.http2.call import CallFailed
from gateway.inference import InferRequest, InferResponse
from gateway.tensor_proto import encoded, read
from gateway.wire_format import joined, map_entry
from services.protocol.tfserving_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelVersionStatus,
    PredictRequest,
    PredictResponse,
)

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
READY_TIMEOUT_SECONDS = 2.0
"""A server that does not tell its models' status within this is not ready."""
TOO_LARGE = "message larger than max"


class TFServing:
    """One TensorFlow Serving server: a Backend.

    Args:
        address: `host:port` of its gRPC.
        contracts: the models' contracts, by name; what a reply is held against.
        max_request_bytes: the largest reply that is read.
        tls: how its address is secured, if it is.
    """

    label: ClassVar[str] = "tfserving"

    def __init__(
        self,
        address: str,
        *,
        contracts: Mapping[str, Contract],
        max_request_bytes: int,
        tls: ChannelTls | None = None,
    ) -> None:
        self._contracts = contracts
        self._address = address
        self._fitting: set[tuple[str, str, str]] = set()
        self._max_bytes = max_request_bytes
        self._channel = GrpcChannel(address, max_request_bytes=max_request_bytes, tls=tls)

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request.

        Raises:
            EndpointUnreachable: there is no connection.
            EndpointBusy: it refuses more work.
            EndpointFailed: it broke, or does not hold the version.
            ModelFailed: the model raised.
            BadReply: it said OK with the wrong tensors or of another version.
            RejectedByBackend: it blames the input.
            TimeoutError: it said that the deadline has passed.
        """
        predict = self._channel.method(PREDICT)
        try:
            answer = await predict(_predict_request(request), timeout=time_left(request.deadline))
        except CallFailed as error:
            if error.code is StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError from error
            raise _translate(error) from error
        try:
            return self._response(request, parse(PredictResponse, answer))
        except InvalidTensor as error:
            raise BadReply(f"TF Serving answered wrongly: {error}") from error

    async def is_ready(self, model: str, version: str, variant: str, /) -> bool:
        """Whether that version is AVAILABLE.

        Raises:
            CannotServe: it has other tensors than the contract says.
        """
        target, spec = (model, version, variant), model_spec(model, version, variant)
        asked = GetModelStatusRequest(model_spec=spec).SerializeToString()
        try:
            told = await self._channel.method(GET_MODEL_STATUS)(asked, timeout=READY_TIMEOUT_SECONDS)
            is_ready = any(
                status.version == int(version) and status.state == ModelVersionStatus.AVAILABLE
                for status in parse(GetModelStatusResponse, told).model_version_status
            )
            if is_ready and target not in self._fitting:
                await check_model(self._channel, self._contracts[model], spec, where=self._address)
                self._fitting.add(target)
        except (CallFailed, BadReply):
            is_ready = False
        if not is_ready:
            self._fitting.discard(target)  # it may come back as another
        return is_ready

    async def aclose(self) -> None:
        """Close the connection."""
        await self._channel.aclose()

    def _response(self, request: InferRequest, reply: PredictResponse) -> InferResponse:
        """Check a reply and translate it.

        Raises:
            InvalidTensor, BadReply: it does not fit the request and the contract.
        """
        answered = reply.model_spec
        if answered.HasField("version") and answered.version.value != int(request.version):
            raise BadReply(
                f"TF Serving answered with version {answered.version.value}, not {request.version}"
            )
        contract = self._contracts[request.model]
        names = request.outputs or tuple(spec.name for spec in contract.outputs)
        outputs = tuple(
            read(name, reply.outputs[name], max_bytes=self._max_bytes)
            for name in names
            if name in reply.outputs
        )
        check_reply(contract, request, outputs)
        return InferResponse(
            request.model,
            request.version,
            outputs,
            variant=request.variant,
            backend=self.label,
        )


def _predict_request(request: InferRequest) -> bytes:
    """The request on the wire, a PredictRequest."""
    message = PredictRequest(
        model_spec=model_spec(request.model, request.version, request.variant), output_filter=request.outputs
    )
    number = PredictRequest.INPUTS_FIELD_NUMBER
    return joined(message, (map_entry(number, tensor.name, *encoded(tensor)) for tensor in request.inputs))


def _translate(error: CallFailed) -> InferwayError:
    """Who is to blame for a failed call."""
    code, text = error.code, error.details
    message = f"TF Serving: {code.name}: {text}"
    match code:
        case StatusCode.INVALID_ARGUMENT:
            return RejectedByBackend(text)
        case StatusCode.RESOURCE_EXHAUSTED:
            return EndpointFailed(message) if TOO_LARGE in text.lower() else EndpointBusy(message)
        case StatusCode.INTERNAL:
            return ModelFailed(message)
        case _ if not error.was_sent:
            return EndpointUnreachable(message)
        case _:
            return EndpointFailed(message)
