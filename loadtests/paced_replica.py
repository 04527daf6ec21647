"""A stand-in for a model server whose speed is set, for `loadtests.slow_replica`.

It has no model and does one request at a time. It speaks the Open Inference Protocol over gRPC: ModelReady,
and ModelInfer for one FP32 input. Each inference waits its turn, takes `seconds`, and answers with the
input's first ten values, so that a client can check that the answer is its own. SIGUSR1 makes it slower by
the factor that it was started with. Like an engine, it finishes an inference that it has begun though the
caller has gone; one that still waits for its turn is dropped.
"""

import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import grpc

from services.launch import Launch
from services.protocol import open_inference_pb2 as oip

VALUES = 10
SERVICE = "inference.GRPCInferenceService"


def launch(*, folder: Path, root: Path, port: int, seconds: float, slowdown: float) -> Launch:
    """Say how to start it; its log goes to `folder`."""
    arguments = [str(port), str(seconds), str(slowdown)]
    return Launch(
        name="paced replica",
        argv=[sys.executable, "-m", "loadtests.paced_replica", *arguments],
        is_ready=lambda: listens(port),
        log=folder / f"replica-{port}.log",
        cwd=root,
    )


def listens(port: int) -> bool:
    """Whether something takes connections at this port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class PacedReplica:
    """The service.

    Args:
        seconds: of one inference.
        slowdown: by what `slow_down` multiplies it.
    """

    def __init__(self, seconds: float, slowdown: float) -> None:
        self._seconds = seconds
        self._slowdown = slowdown
        self._turn = asyncio.Lock()
        self._working: set[asyncio.Task[None]] = set()

    def slow_down(self) -> None:
        """Every inference from now on takes longer."""
        self._seconds *= self._slowdown

    async def infer(self, request: oip.ModelInferRequest, _context: object) -> oip.ModelInferResponse:
        """Answer with the first values of the input."""
        await self._turn.acquire()
        work = asyncio.create_task(self._work())
        self._working.add(work)
        work.add_done_callback(self._working.discard)
        await asyncio.shield(work)
        response = oip.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
        response.outputs.add(name="probabilities", datatype="FP32", shape=[1, VALUES])
        response.raw_output_contents.append(request.raw_input_contents[0][: 4 * VALUES])
        return response

    async def ready(self, _request: oip.ModelReadyRequest, _context: object) -> oip.ModelReadyResponse:
        """Always."""
        return oip.ModelReadyResponse(ready=True)

    async def _work(self) -> None:
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self._turn.release()


async def serve(port: int, seconds: float, slowdown: float) -> None:
    """Until the process is told to stop."""
    replica = PacedReplica(seconds, slowdown)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, replica.slow_down)
    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(
            replica.infer,
            request_deserializer=oip.ModelInferRequest.FromString,
            response_serializer=oip.ModelInferResponse.SerializeToString,
        ),
        "ModelReady": grpc.unary_unary_rpc_method_handler(
            replica.ready,
            request_deserializer=oip.ModelReadyRequest.FromString,
            response_serializer=oip.ModelReadyResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
