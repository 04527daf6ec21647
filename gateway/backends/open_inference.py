"""Triton over the Open Inference Protocol's gRPC: https://github.com/kserve/open-inference-protocol.

Tensors travel raw in both directions. What was learnt from the real server (2.51):

- A model of the python backend whose process was killed answers INTERNAL for ever, each time after a second,
  while ModelReady stays true. To load it again does nothing, since for Triton it is loaded; to unload and
  then load it heals it in a quarter of a second. So that is what `heal` does after such an answer.
- A call that is cancelled, or whose gRPC deadline passes, while its reply is being written can end the whole
  server (SIGSEGV, within a minute of such load). So a caller who leaves only stops listening. Triton is told
  the time left by the parameter `timeout`, which its queue may heed.
- A full queue is UNAVAILABLE, told from a broken server by its text.
- It answers with the outputs in an order of its own.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from typing import ClassVar

from grpc import StatusCode

from gateway.backends import engine_model_name
from gateway.backends.channel_tls import ChannelTls
from gateway.backends.grpc_channel import GrpcChannel, parse
from gateway.backends.triton_model import SERVICE, check_model
from gateway.backends.unbroken_calls import CALL_SECONDS, UnbrokenCalls
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
from gateway.inference import InferRequest, InferResponse, Tensor
from gateway.oip_messages import read_parameters, write_parameters
from gateway.wire_format import field, joined
from services.protocol.open_inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest,
)

INFER, READY = f"{SERVICE}/ModelInfer", f"{SERVICE}/ModelReady"
LOAD, UNLOAD = f"{SERVICE}/RepositoryModelLoad", f"{SERVICE}/RepositoryModelUnload"
READY_TIMEOUT_SECONDS = 2.0
"""A server that does not tell whether a model is ready within this is not."""
LOAD_TIMEOUT_SECONDS = 60.0
"""A model loads, warm-up included, within this, or it counts as failed."""
CLOSE_SECONDS = 2.0
"""How long closing waits for a model that is being loaded: cut off, it might be left unloaded."""
DEAD_PROCESS = ("Stub process", "is not healthy")
QUEUE_FULL = "maximum queue size"
NO_ID = "[request id: <id_unknown>] "


class OpenInference:
    """One Triton: a Backend that Heals.

    Args:
        address: `host:port` of its gRPC.
        contracts: the models' contracts, by name; what a reply is held against.
        max_request_bytes: the tensors of the largest message.
        tls: how its address is secured, if it is.
    """

    label: ClassVar[str] = "triton"

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
        self._channel = GrpcChannel(address, max_request_bytes=max_request_bytes, tls=tls)
        self._calls = UnbrokenCalls(self._channel.withdraw)
        self._fitting: set[tuple[str, str]] = set()
        self._dead: set[str] = set()
        self._reviving: dict[str, asyncio.Task[None]] = {}
        self._revivals: dict[str, int] = {}

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request.

        Raises:
            EndpointUnreachable: there is no connection.
            EndpointBusy: its queue is full.
            EndpointFailed: it or the model's process broke, or it does not hold the model.
            ModelFailed: the model raised.
            BadReply: it said OK with the wrong tensors or of another version.
            RejectedByBackend: it blames the input.
            TimeoutError: it said that the deadline has passed.
        """
        name = engine_model_name(request.model, request.variant)
        life = self._revivals.get(name, 0)
        try:
            infer = self._channel.method(INFER)
            answer = await self._calls(infer(_message(name, request), timeout=CALL_SECONDS))
        except CallFailed as error:
            # Of a request that was sent before a revival this is old news.
            if _is_dead_process(error) and life == self._revivals.get(name, 0):
                self._dead.add(name)
            if error.code is StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError from error
            raise _translate(error) from error
        self._dead.discard(name)
        reply = parse(ModelInferResponse, answer)
        return InferResponse(
            request.model,
            request.version,
            self._outputs(request, reply),
            variant=request.variant,
            backend=self.label,
            parameters=read_parameters(reply.parameters),
        )

    async def is_ready(self, model: str, version: str, variant: str, /) -> bool:
        """Whether Triton holds that version; it says so of a model whose process is dead, too.

        Raises:
            CannotServe: the version has other tensors than the contract says.
        """
        name = engine_model_name(model, variant)
        asked = ModelReadyRequest(name=name, version=version).SerializeToString()
        try:
            reply = await self._channel.method(READY)(asked, timeout=READY_TIMEOUT_SECONDS)
            is_ready = parse(ModelReadyResponse, reply).ready
            if is_ready and (name, version) not in self._fitting:
                contract = self._contracts[model]
                await check_model(self._channel, contract, name, version, where=self._address)
                self._fitting.add((name, version))
        except (CallFailed, BadReply):
            is_ready = False
        if not is_ready:
            self._fitting.discard((name, version))  # it may come back as another
        return is_ready

    async def heal(self, model: str, variant: str, /) -> bool | None:
        """Unload and load a model whose process was seen dead; None when none was, else whether it worked."""
        name = engine_model_name(model, variant)
        if name not in self._dead:
            return None
        try:
            # Whoever gives it up must not cut a long load off: the next would begin it anew.
            await asyncio.shield(self._revival(name))
        except CallFailed:
            return False
        return True

    async def aclose(self) -> None:
        """Close the connection, after a moment for a model that is being loaded and for calls under way."""
        if self._reviving:
            await asyncio.wait(self._reviving.values(), timeout=CLOSE_SECONDS)
        await self._calls.aclose()
        await self._channel.aclose()

    def _revival(self, name: str) -> asyncio.Task[None]:
        """The revival of a model that is under way, begun if there is none; may end in a CallFailed."""

        async def revive() -> None:
            unload = RepositoryModelUnloadRequest(model_name=name).SerializeToString()
            await self._channel.method(UNLOAD)(unload, timeout=LOAD_TIMEOUT_SECONDS)
            load = RepositoryModelLoadRequest(model_name=name).SerializeToString()
            await self._channel.method(LOAD)(load, timeout=LOAD_TIMEOUT_SECONDS)
            self._dead.discard(name)
            self._revivals[name] = self._revivals.get(name, 0) + 1

        def finished(task: asyncio.Task[None]) -> None:
            del self._reviving[name]
            if not task.cancelled():
                task.exception()  # the check that waited for it may be gone

        if name not in self._reviving:
            self._reviving[name] = asyncio.create_task(revive())
            self._reviving[name].add_done_callback(finished)
        return self._reviving[name]

    def _outputs(self, request: InferRequest, reply: ModelInferResponse) -> tuple[Tensor, ...]:
        """The tensors of a reply, checked, in the order asked for.

        Raises:
            BadReply: they do not fit the request and the contract.
        """
        if reply.model_version != request.version:
            raise BadReply(f"Triton answered with version '{reply.model_version}', not {request.version}")
        if len(reply.raw_output_contents) != len(reply.outputs):
            raise BadReply(
                f"Triton answered with {len(reply.outputs)} outputs"
                f" and {len(reply.raw_output_contents)} raw contents"
            )
        contract = self._contracts[request.model]
        tensors = {
            output.name: Tensor(output.name, output.datatype, tuple(output.shape), data)
            for output, data in zip(reply.outputs, reply.raw_output_contents, strict=True)
        }
        wanted = request.outputs or tuple(spec.name for spec in contract.outputs)
        outputs = tuple(tensors[name] for name in wanted if name in tensors)
        try:
            check_reply(contract, request, outputs)
        except InvalidTensor as error:
            raise BadReply(f"Triton answered wrongly: {error}") from error
        return outputs


def _message(name: str, request: InferRequest) -> bytes:
    """A ModelInferRequest on the wire; without the caller's id, which several callers of one flight share."""
    message = ModelInferRequest(model_name=name, model_version=request.version)
    for tensor in request.inputs:
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    for output in request.outputs:
        message.outputs.add(name=output)
    write_parameters(request.parameters, message.parameters)
    if request.deadline < math.inf:
        left = max(0.0, request.deadline - time.monotonic())
        message.parameters["timeout"].int64_param = max(1, int(left * 1e6))
    number = ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
    return joined(message, (field(number, tensor.data) for tensor in request.inputs))


def _is_dead_process(error: CallFailed) -> bool:
    return error.code is StatusCode.INTERNAL and all(words in error.details for words in DEAD_PROCESS)


def _translate(error: CallFailed) -> InferwayError:
    """What a failed call means, in the gateway's words."""
    code, details = error.code, error.details.removeprefix(NO_ID)
    failure: type[InferwayError] = EndpointFailed
    if code is StatusCode.INVALID_ARGUMENT:
        failure = RejectedByBackend
    elif not error.was_sent:
        failure = EndpointUnreachable
    elif "message larger than max" in details:
        failure = BadReply  # sending knows no limit, so it is what came back
    elif code is StatusCode.RESOURCE_EXHAUSTED or QUEUE_FULL in details:
        failure = EndpointBusy
    elif code is StatusCode.INTERNAL and not _is_dead_process(error):
        failure = ModelFailed
    return failure(f"Triton: {details.partition(chr(10))[0] or code.name}")
