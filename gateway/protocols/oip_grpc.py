"""The Open Inference Protocol over gRPC, with Triton's extensions.

Specification: https://github.com/kserve/open-inference-protocol (inference_grpc); extensions: Triton's
grpc_service.proto (config, statistics, repository index, streams) and `classification`. Answers are raw,
whether the request was raw or typed, as Triton's are. What the gateway knows of an answer (cache tier,
variant, version, backend) is among its parameters.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from google.protobuf.json_format import ParseDict

from gateway.contract import Contract
from gateway.errors import NotFound
from gateway.inference import InferRequest, InferResponse
from gateway.oip_messages import write_parameters
from gateway.protocols import oip_metadata
from gateway.protocols.edge import (
    PRIORITY,
    STICKY,
    VARIANT,
    Edge,
    backend_parameters,
    priority,
    reply_facts,
    timeout_seconds,
)
from gateway.protocols.grpc_calls import Service, request_span
from gateway.protocols.grpc_methods import Context, Methods
from gateway.protocols.oip_classification import classify
from gateway.protocols.oip_grpc_request import OipMessage, read_infer_message
from gateway.protocols.problems import error_text
from gateway.stages.measured import Measurement
from services.protocol import open_inference_pb2 as oip

PROTOCOL = "oip_grpc"
SERVICE = "inference.GRPCInferenceService"
STREAM = f"{SERVICE}/ModelStreamInfer"
UNSUPPORTED = (
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
    "LogSettings",
)
"""Methods of Triton's that Inferway does not serve; no entry of `extensions` promises them."""
STREAM_IN_FLIGHT = 64
"""How many requests of one stream are worked on at a time; further ones wait in the connection."""


def methods(edge: Edge) -> Methods:
    """The service."""
    infers = _OpenInference(edge)
    service = Service(edge, SERVICE, PROTOCOL)
    service.unary("ServerLive", oip.ServerLiveRequest, infers.server_live)
    service.unary("ServerReady", oip.ServerReadyRequest, infers.server_ready)
    service.unary("ServerMetadata", oip.ServerMetadataRequest, infers.server_metadata)
    service.unary("ModelReady", oip.ModelReadyRequest, infers.model_ready)
    service.unary("ModelMetadata", oip.ModelMetadataRequest, infers.model_metadata)
    service.unary("ModelConfig", oip.ModelConfigRequest, infers.model_config)
    service.unary("ModelStatistics", oip.ModelStatisticsRequest, infers.model_statistics)
    service.unary("RepositoryIndex", oip.RepositoryIndexRequest, infers.repository_index)
    service.unary("ModelInfer", oip.ModelInferRequest, infers.infer, measures=True, recalls=True)
    service.stream("ModelStreamInfer", oip.ModelInferRequest, infers.stream_infer)
    service.unsupported("Inferway has no shared memory, model control, trace or log settings", *UNSUPPORTED)
    return service.methods


class _OpenInference:
    """The methods."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def server_live(
        self, _: oip.ServerLiveRequest, _measurement: Measurement, _context: Context
    ) -> oip.ServerLiveResponse:
        return oip.ServerLiveResponse(live=True)

    async def server_ready(
        self, _: oip.ServerReadyRequest, _measurement: Measurement, _context: Context
    ) -> oip.ServerReadyResponse:
        return oip.ServerReadyResponse(ready=self._edge.ready)

    async def server_metadata(
        self, _: oip.ServerMetadataRequest, _measurement: Measurement, _context: Context
    ) -> oip.ServerMetadataResponse:
        return ParseDict(oip_metadata.server_metadata(), oip.ServerMetadataResponse())

    async def model_ready(
        self, asked: oip.ModelReadyRequest, _measurement: Measurement, _context: Context
    ) -> oip.ModelReadyResponse:
        """What there is not is not ready, which is no error here."""
        try:
            version = self._edge.catalog.version(asked.name, version=asked.version)
        except NotFound:
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=self._edge.is_ready(asked.name, version))

    async def model_metadata(
        self, asked: oip.ModelMetadataRequest, _measurement: Measurement, _context: Context
    ) -> oip.ModelMetadataResponse:
        content = oip_metadata.model_metadata(self._edge.catalog, asked.name, asked.version)
        return ParseDict(content, oip.ModelMetadataResponse())

    async def model_config(
        self, asked: oip.ModelConfigRequest, _measurement: Measurement, _context: Context
    ) -> oip.ModelConfigResponse:
        content = oip_metadata.model_config(self._edge.catalog, asked.name, asked.version)
        return ParseDict({"config": content}, oip.ModelConfigResponse())

    async def model_statistics(
        self, asked: oip.ModelStatisticsRequest, _measurement: Measurement, _context: Context
    ) -> oip.ModelStatisticsResponse:
        content = oip_metadata.model_statistics(self._edge, asked.name, asked.version)
        return ParseDict(content, oip.ModelStatisticsResponse())

    async def repository_index(
        self, asked: oip.RepositoryIndexRequest, _measurement: Measurement, _context: Context
    ) -> oip.RepositoryIndexResponse:
        models = oip_metadata.repository_index(self._edge, ready_only=asked.ready)
        return ParseDict({"models": models}, oip.RepositoryIndexResponse())

    async def infer(
        self, message: oip.ModelInferRequest, measurement: Measurement, context: Context
    ) -> oip.ModelInferResponse:
        """One inference."""
        measurement.asks(message.model_name, message.model_version)
        contract = self._edge.catalog.contract(message.model_name)
        asked = read_infer_message(message, contract)
        timeouts = (context.time_left(), timeout_seconds(asked.parameters))
        timeout = min((seconds for seconds in timeouts if seconds is not None), default=None)
        metadata = context.metadata
        response = await self._edge.infer(
            InferRequest(
                model=message.model_name,
                version=message.model_version,
                variant=str(asked.parameters.get("variant", metadata.get(VARIANT, ""))),
                inputs=asked.inputs,
                outputs=asked.outputs,
                parameters=backend_parameters(asked.parameters),
                deadline=self._edge.deadline(message.model_name, timeout),
                id=message.id,
                priority=priority(asked.parameters, metadata.get(PRIORITY, "")),
                sticky=metadata.get(STICKY, ""),
            )
        )
        measurement.answered(response)
        return _encode(response, asked, contract, message.id)

    async def stream_infer(
        self, messages: AsyncIterator[oip.ModelInferRequest], context: Context
    ) -> AsyncGenerator[oip.ModelStreamInferResponse, None]:
        """Many inferences at a time; the replies keep the requests' order, and a failure is one of them.

        When the gateway stops, what has been read is answered, and then the stream ends.
        """
        room = asyncio.Semaphore(STREAM_IN_FLIGHT)
        replies: asyncio.Queue[asyncio.Task[oip.ModelStreamInferResponse] | None] = asyncio.Queue()
        tasks: set[asyncio.Task[oip.ModelStreamInferResponse]] = set()

        async def read() -> None:
            try:
                await room.acquire()
                async for message in messages:
                    # A stream outlives configurations: each of its requests begins with the newest.
                    newest = _OpenInference(self._edge.now)
                    task = asyncio.create_task(newest._streamed(message, context))
                    tasks.add(task)
                    replies.put_nowait(task)
                    await room.acquire()
            finally:
                replies.put_nowait(None)

        reader = asyncio.create_task(read())
        closing = asyncio.create_task(self._edge.closing.wait())
        closing.add_done_callback(lambda _, reader=reader: reader.cancel())  # type: ignore[misc]
        try:
            while (task := await replies.get()) is not None:
                yield await task
                tasks.discard(task)
                room.release()
            if not closing.done():
                await reader
        finally:
            for pending in (closing, reader, *tasks):
                pending.cancel()
            del reader, pending  # a failed one holds its exception, which holds this frame

    async def _streamed(
        self, message: oip.ModelInferRequest, context: Context
    ) -> oip.ModelStreamInferResponse:
        """One reply of a stream."""
        try:
            measurement = self._edge.measured.start(PROTOCOL)
            with request_span(self._edge, STREAM, context, measurement), measurement:
                if self._edge.access is not None:
                    measurement.asks(message.model_name, message.model_version)
                    await self._edge.access.admit_again()
                response = await self.infer(message, measurement, context)
        except Exception as error:  # noqa: BLE001 - the stream goes on; the measurement has logged it
            response = oip.ModelInferResponse(id=message.id)
            return oip.ModelStreamInferResponse(error_message=error_text(error), infer_response=response)
        response.parameters["triton_final_response"].bool_param = True
        return oip.ModelStreamInferResponse(infer_response=response)


def _encode(
    response: InferResponse, asked: OipMessage, contract: Contract, request_id: str
) -> oip.ModelInferResponse:
    """The reply, with the outputs that were wanted as classes in that form."""
    reply = oip.ModelInferResponse(model_name=response.model, model_version=response.version, id=request_id)
    for output in response.outputs:
        tensor = output
        if classes := asked.classes.get(output.name):
            labels = contract.output_spec(output.name).labels
            tensor = classify(output, classes, labels, batched=contract.max_batch_size > 0)
        reply.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        reply.raw_output_contents.append(bytes(tensor.data))
    write_parameters({**response.parameters, **reply_facts(response)}, reply.parameters)
    return reply
