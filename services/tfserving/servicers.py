"""The two gRPC services of TensorFlow Serving, over `Servables`, with the official messages."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from services.tfserving.models_config import parse_configs
from services.tfserving.servables import Servables, ServingError
from services.tfserving.signatures import DEFAULT_SIGNATURE, Model, fill
from services.tfserving.versions import State

METADATA_FIELD = "signature_def"
RELOAD_POLL_SECONDS = 0.1
Code = grpc.StatusCode


class PredictionService:
    """Predict and GetModelMetadata; what else the real service has is answered UNIMPLEMENTED.

    Args:
        servables: the models.
        as_content: answer in `tensor_content`.
    """

    def __init__(self, servables: Servables[Model], *, as_content: bool) -> None:
        self._servables = servables
        self._as_content = as_content

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server takes."""
        methods = {
            "Predict": _unary(self.predict, PredictRequest),
            "GetModelMetadata": _unary(self.get_model_metadata, GetModelMetadataRequest),
        }
        return grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", methods)

    def predict(self, request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:
        """Run a signature of a version."""
        del context
        spec = request.model_spec
        number, model = _find(self._servables, spec)
        signature = spec.signature_name or DEFAULT_SIGNATURE
        outputs = model.predict(signature, request.inputs, request.output_filter)
        reply = PredictResponse()
        reply.model_spec.name = spec.name
        reply.model_spec.version.value = number
        reply.model_spec.signature_name = signature
        for name, value in outputs.items():
            fill(reply.outputs[name], value, as_content=self._as_content)
        return reply

    def get_model_metadata(
        self, request: GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> GetModelMetadataResponse:
        """The signatures of a version."""
        del context
        _has_spec(request)
        if not request.metadata_field:
            message = "GetModelMetadataRequest must specify at least one metadata_field"
            raise ServingError(Code.INVALID_ARGUMENT, message)
        for field in request.metadata_field:
            if field != METADATA_FIELD:
                raise ServingError(Code.INVALID_ARGUMENT, f"Metadata field {field} is not supported")
        number, model = _find(self._servables, request.model_spec)
        reply = GetModelMetadataResponse()
        reply.model_spec.name = request.model_spec.name
        reply.model_spec.version.value = number
        signatures = SignatureDefMap()
        for name, signature in model.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        reply.metadata[METADATA_FIELD].Pack(signatures)
        return reply


class ModelService:
    """GetModelStatus and HandleReloadConfigRequest.

    Args:
        servables: the models.
        models_root: stands for /models in the base paths of a new configuration.
    """

    def __init__(self, servables: Servables[Model], models_root: Path | None) -> None:
        self._servables = servables
        self._models_root = models_root

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server takes."""
        methods = {
            "GetModelStatus": _unary(self.get_model_status, GetModelStatusRequest),
            "HandleReloadConfigRequest": _unary(self.reload, ReloadConfigRequest),
        }
        return grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", methods)

    def get_model_status(
        self, request: GetModelStatusRequest, context: grpc.ServicerContext
    ) -> GetModelStatusResponse:
        """The state of one version, or of all (as in the real server, a label does not narrow it)."""
        del context
        _has_spec(request)
        spec = request.model_spec
        number = spec.version.value if spec.HasField("version") else None
        reply = GetModelStatusResponse()
        for version in self._servables.status(spec.name, number):
            status = reply.model_version_status.add(version=version.number, state=int(version.state)).status
            status.error_code = Code.UNKNOWN.value[0] if version.error else Code.OK.value[0]
            status.error_message = version.error
            status.SetInParent()
        return reply

    def reload(self, request: ReloadConfigRequest, context: grpc.ServicerContext) -> ReloadConfigResponse:
        """Take a new list of models, and return when every one of them is there."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise ServingError(
                Code.INVALID_ARGUMENT,
                "ServerModelConfig type not supported by HandleReloadConfigRequest."
                " Only ModelConfigList is currently supported",
            )
        configs = parse_configs(request.config, self._models_root)
        self._servables.configure(configs)
        self._servables.poll()
        for config in configs:
            self._wait(config.name, context)
        reply = ReloadConfigResponse()
        reply.status.SetInParent()
        return reply

    def _wait(self, name: str, context: grpc.ServicerContext) -> None:
        """Until a version of the model is available; a model without any version is waited for, too."""
        pause = threading.Event()
        while context.is_active():
            versions = self._servables.versions(name)
            if any(version.state is State.AVAILABLE for version in versions):
                return
            if versions and all(version.settled for version in versions):
                failed = (
                    f"{{{{name: {name} version: {v.number}}} due to error: {v.error}}}" for v in versions
                )
                message = f"1 model(s) did not become available: {{{', '.join(failed)}, }}"
                raise ServingError(Code.UNKNOWN, message)
            pause.wait(RELOAD_POLL_SECONDS)


def _has_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise ServingError(Code.INVALID_ARGUMENT, "Missing ModelSpec")


def _find(servables: Servables[Model], spec: ModelSpec) -> tuple[int, Model]:
    number = spec.version.value if spec.HasField("version") else None
    return servables.find(spec.name, number, spec.version_label)


def _unary(
    call: Callable[[Any, grpc.ServicerContext], Any], request: Any
) -> "grpc.RpcMethodHandler[Any, Any]":
    """A method whose ServingErrors are the call's status."""

    def answer(message: Any, context: grpc.ServicerContext) -> Any:
        try:
            return call(message, context)
        except ServingError as error:
            return context.abort(error.code, str(error))

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request.FromString,
        response_serializer=lambda reply: reply.SerializeToString(),
    )
