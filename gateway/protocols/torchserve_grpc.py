"""TorchServe's gRPC: Predictions and Ping of `org.pytorch.serve.grpc.inference.InferenceAPIsService`.

Errors have the codes that they should have, where TorchServe says INTERNAL for nearly all; the texts of those
that clients look for are its own. StreamPredictions is UNIMPLEMENTED: no backend streams yet.
"""

import orjson
from google.protobuf.empty_pb2 import Empty

from gateway.errors import MalformedBody, ModelNotFound, VersionNotFound
from gateway.inference import InferRequest, split_bytes
from gateway.protocols.edge import PRIORITY, STICKY, VARIANT, Edge, priority, reply_facts
from gateway.protocols.grpc_calls import Service
from gateway.protocols.grpc_methods import Context, Methods
from gateway.protocols.torchserve_items import pass_through, payload, read_items, write_answer
from gateway.protocols.torchserve_models import model_version
from gateway.stages.measured import Measurement
from services.protocol.torchserve_pb2 import PredictionResponse, PredictionsRequest, TorchServeHealthResponse

SERVICE = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
PROTOCOL = "torchserve_grpc"
UNSUPPORTED = ("StreamPredictions", "StreamPredictions2")
MAX_FIELDS = 1000
JAVA = "org.pytorch.serve.archive.model"


def methods(edge: Edge) -> Methods:
    """The service."""
    torchserve = _TorchServe(edge)
    service = Service(edge, SERVICE, PROTOCOL)
    service.unary("Predictions", PredictionsRequest, torchserve.predictions, measures=True)
    service.unary("Ping", Empty, torchserve.ping)
    service.unsupported("Inferway has no streams of predictions", *UNSUPPORTED)
    return service.methods


class _TorchServe:
    """The methods."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def ping(self, _: Empty, _measurement: Measurement, _context: Context) -> TorchServeHealthResponse:
        """Whether to send requests, as `/ping` says it: the JSON text that TorchServe puts there."""
        status = {"status": "Healthy" if self._edge.ready else "Unhealthy"}
        return TorchServeHealthResponse(health=orjson.dumps(status, option=orjson.OPT_INDENT_2).decode())

    async def predictions(
        self, asked: PredictionsRequest, measurement: Measurement, context: Context
    ) -> PredictionResponse:
        """One inference: a file's bytes in, JSON out; which cache and backend answered is in the metadata."""
        measurement.asks(asked.model_name, asked.model_version)
        try:
            return await self._predictions(asked, measurement, context)
        except ModelNotFound as error:
            error.args = (f"Model not found: {error.model}\n{JAVA}.ModelNotFoundException",)
            raise
        except VersionNotFound as error:
            error.args = (f"{error}\n{JAVA}.ModelVersionNotFoundException",)
            raise

    async def _predictions(
        self, asked: PredictionsRequest, measurement: Measurement, context: Context
    ) -> PredictionResponse:
        model, catalog = asked.model_name, self._edge.catalog
        if len(asked.input) > MAX_FIELDS:
            raise MalformedBody(f"input: expected at most {MAX_FIELDS} entries, got {len(asked.input)}")
        deadline = self._edge.deadline(model, context.time_left())
        metadata = context.metadata
        rank = priority({}, metadata.get(PRIORITY, ""))
        if model in catalog.passthrough:
            inputs = pass_through(asked.input)
            request = InferRequest(model, inputs, deadline, version=asked.model_version, priority=rank)
            response = await self._edge.infer(request)
            (prediction,) = split_bytes(response.outputs[0])
        else:
            contract, transform = catalog.contract(model), catalog.transforms.get(model)
            content = payload({name: asked.input[name] for name in sorted(asked.input)})
            version = model_version(contract, asked.model_version)
            catalog.version(model, version=version)  # one that there is not ends here
            reading = read_items(contract, transform, content, self._edge.decoding)
            inputs, many = await self._edge.by(deadline, reading, "the payload was decoded")
            request = InferRequest(
                model,
                inputs,
                deadline,
                version=version,
                variant=metadata.get(VARIANT, ""),
                sticky=metadata.get(STICKY, ""),
                priority=rank,
            )
            response = await self._edge.infer(request)
            prediction = write_answer(contract, transform, response, many=many)
        measurement.answered(response)
        context.trailers += reply_facts(response).items()
        return PredictionResponse(prediction=prediction)
