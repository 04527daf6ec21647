"""A stand-in for an engine with one worker: it takes a fixed time for each request, one after the other.

`loadtests.overload --paced` uses it where a real engine would take the processor from the gateway that is
measured, and `loadtests.growth`, with no time at all, where it is many engines that hold many models. It
speaks as much of the Open Inference Protocol as the gateway needs, answers every request with the same two
numbers a row, and goes on with what its caller has given up, as engines do.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from services.launch import Launch
from services.protocol import open_inference_pb2 as oip

REQUEST_SECONDS = 0.025
SERVICE = "inference.GRPCInferenceService"


def launch(
    *, folder: Path, root: Path, ports: Sequence[int], request_seconds: float = REQUEST_SECONDS
) -> Launch:
    """Say how to start it, on each of these ports; its log goes to `folder`."""

    def is_ready() -> bool:
        with grpc.insecure_channel(f"127.0.0.1:{ports[-1]}") as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=1.0)
            except grpc.FutureTimeoutError:
                return False
        return True

    return Launch(
        name="paced engine",
        argv=[sys.executable, "-m", "loadtests.paced_engine", str(request_seconds), *map(str, ports)],
        is_ready=is_ready,
        log=folder / "paced_engine.log",
        cwd=root,
    )


async def serve(request_seconds: float, ports: Sequence[int]) -> None:
    """The server, until the process is told to stop."""
    loop = asyncio.get_running_loop()
    free_at = loop.time()

    async def infer(request: oip.ModelInferRequest, _context: object) -> oip.ModelInferResponse:
        nonlocal free_at
        free_at = max(loop.time(), free_at) + request_seconds
        if request_seconds:
            await asyncio.sleep(free_at - loop.time())
        rows = request.inputs[0].shape[0]
        output = oip.ModelInferResponse.InferOutputTensor(
            name="probabilities", datatype="FP32", shape=[rows, 2]
        )
        data = np.full((rows, 2), 0.5, np.float32).tobytes()
        return oip.ModelInferResponse(
            model_name=request.model_name, model_version="1", outputs=[output], raw_output_contents=[data]
        )

    async def is_ready(_request: oip.ModelReadyRequest, _context: object) -> oip.ModelReadyResponse:
        return oip.ModelReadyResponse(ready=True)

    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(
            infer, oip.ModelInferRequest.FromString, oip.ModelInferResponse.SerializeToString
        ),
        "ModelReady": grpc.unary_unary_rpc_method_handler(
            is_ready, oip.ModelReadyRequest.FromString, oip.ModelReadyResponse.SerializeToString
        ),
    }
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    for port in ports:
        server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
