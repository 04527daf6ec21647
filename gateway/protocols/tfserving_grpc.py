"""TensorFlow Serving's gRPC: PredictionService (Predict, GetModelMetadata) and ModelService (GetModelStatus).

Messages: tensorflow_serving/apis/*.proto. Inputs come in `tensor_content` or in typed fields. Outputs go in
typed fields (`float_val`, ...), as from a server with its default flags, since clients read those by name.
Every model has one signature, `serving_default`; another is INVALID_ARGUMENT (the server:
FAILED_PRECONDITION). Without a version the model's default version answers; with a label, GetModelStatus
tells of the label's version (the server: of all). The other methods of both services are UNIMPLEMENTED.
"""

from collections import Counter

from gateway.errors import InvalidRequest
from gateway.inference import InferRequest
from gateway.protocols.edge import PRIORITY, STICKY, VARIANT, Edge, priority, reply_facts
from gateway.protocols.grpc_calls import Service
from gateway.protocols.grpc_methods import Context, Methods
from gateway.protocols.tfserving_models import (
    SIGNATURE,
    SIGNATURE_FIELD,
    check_signature,
    check_spec,
    model_status,
    signatures,
    version_asked,
)
from gateway.stages.measured import Measurement
from gateway.tensor_proto import read, write
from services.protocol.tfserving_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    PredictRequest,
    PredictResponse,
)

PROTOCOL = "tfserving_grpc"
PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
UNSUPPORTED = ("Classify", "Regress", "MultiInference")
MODEL_UNSUPPORTED = ("HandleReloadConfigRequest",)
TYPE_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
"""The official name of what our SignatureDefMap's bytes are."""


def methods(edge: Edge) -> Methods:
    """Both services."""
    tfserving = _TFServing(edge)
    prediction = Service(edge, PREDICTION_SERVICE, PROTOCOL)
    prediction.unary("Predict", PredictRequest, tfserving.predict, measures=True)
    prediction.unary("GetModelMetadata", GetModelMetadataRequest, tfserving.metadata)
    prediction.unsupported("Inferway serves Predict, and no method that takes tf.Examples", *UNSUPPORTED)
    model = Service(edge, MODEL_SERVICE, PROTOCOL)
    model.unary("GetModelStatus", GetModelStatusRequest, tfserving.status)
    model.unsupported("Inferway does not change its models by a call", *MODEL_UNSUPPORTED)
    return {**prediction.methods, **model.methods}


class _TFServing:
    """The methods."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def predict(
        self, message: PredictRequest, measurement: Measurement, context: Context
    ) -> PredictResponse:
        """One inference."""
        model, version, label = _spec(message)
        measurement.asks(model, version)
        check_spec(self._edge.catalog, model, version=version, label=label)
        check_signature(message.model_spec.signature_name)
        contract = self._edge.catalog.contract(model)
        contract.check_counts(inputs=len(message.inputs), outputs=len(message.output_filter))
        metadata = context.metadata
        request = InferRequest(
            model=model,
            version=version,
            label=label,
            variant=metadata.get(VARIANT, ""),
            sticky=metadata.get(STICKY, ""),
            inputs=tuple(
                read(
                    name,
                    proto,
                    max_bytes=self._edge.max_request_bytes,
                    check=contract.check_input,
                    empty_is_zeros=True,
                )
                for name, proto in message.inputs.items()
            ),
            outputs=_output_filter(message),
            deadline=self._edge.deadline(model, context.time_left()),
            priority=priority({}, metadata.get(PRIORITY, "")),
        )
        response = await self._edge.infer(request)
        measurement.answered(response)
        context.trailers += reply_facts(response).items()
        reply = PredictResponse()
        reply.model_spec.name = model
        reply.model_spec.version.value = int(response.version)
        reply.model_spec.signature_name = SIGNATURE
        for tensor in response.outputs:
            write(tensor, reply.outputs[tensor.name])
        return reply

    async def metadata(
        self, message: GetModelMetadataRequest, _: Measurement, __: Context
    ) -> GetModelMetadataResponse:
        """A model's signature."""
        model, version, label = _spec(message)
        if not message.metadata_field:
            raise InvalidRequest("GetModelMetadataRequest must specify at least one metadata_field")
        for field in message.metadata_field:
            if field != SIGNATURE_FIELD:
                raise InvalidRequest(f"Metadata field {field} is not supported")
        concrete = check_spec(self._edge.catalog, model, version=version, label=label)
        reply = GetModelMetadataResponse()
        reply.model_spec.name = model
        reply.model_spec.version.value = int(concrete)
        packed = reply.metadata[SIGNATURE_FIELD]
        packed.type_url = TYPE_URL
        packed.value = signatures(self._edge.catalog.contract(model)).SerializeToString()
        return reply

    async def status(
        self, message: GetModelStatusRequest, _: Measurement, __: Context
    ) -> GetModelStatusResponse:
        """The state of a version, or of all versions of a model."""
        model, version, label = _spec(message)
        return model_status(self._edge, model, version=version, label=label)


def _spec(message: PredictRequest | GetModelMetadataRequest | GetModelStatusRequest) -> tuple[str, str, str]:
    """Model, version and label.

    Raises:
        InvalidRequest: no model is named.
    """
    if not message.HasField("model_spec"):
        raise InvalidRequest("Missing ModelSpec")
    spec = message.model_spec
    if not spec.name:
        raise InvalidRequest("ModelSpec has no name specified.")
    return spec.name, version_asked(spec.version.value), spec.version_label


def _output_filter(message: PredictRequest) -> tuple[str, ...]:
    names = dict.fromkeys(message.output_filter)
    if len(names) < len(message.output_filter):
        twice = next(name for name, count in Counter(message.output_filter).items() if count > 1)
        raise InvalidRequest(f"duplicate output tensor alias: {twice}")
    return tuple(names)
