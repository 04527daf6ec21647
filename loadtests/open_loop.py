"""An open loop: requests come when they are due, whatever became of those before."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random

import grpc
import numpy as np

from loadtests.bare_server import INFER
from loadtests.paced_replica import VALUES
from services.protocol import open_inference_pb2 as oip
from tests.serving import MODEL


@dataclass(slots=True)
class Outcome:
    """What came of the requests over one path.

    Attributes:
        seconds: the time of each request that got its answer.
        failed: what was said instead of the right answer.
    """

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def milliseconds(self, percentile: float) -> float:
        """A percentile of the times."""
        return float(np.percentile(self.seconds, percentile) * 1e3)


async def arrivals(rate: float, count: int, rng: Random) -> AsyncIterator[float]:
    """Wait for each moment of a Poisson process and yield when it was due, by the monotonic clock.

    Args:
        rate: moments a second on average.
        count: how many.
        rng: of the times between them.
    """
    due = time.monotonic() + 0.1
    for _ in range(count):
        due += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield due


async def drive(address: str, *, rate: float, count: int, seed: int) -> Outcome:
    """Send `count` requests, `rate` a second on average, each when it is due whatever became of others.

    Args:
        address: host:port of a gRPC server.
        rate: requests a second.
        count: how many.
        seed: of the inputs and of the times.
    """
    outcome = Outcome()
    images = np.random.default_rng(seed).random((count, 28 * 28), dtype=np.float32)
    async with grpc.aio.insecure_channel(address) as channel:
        infer: grpc.aio.UnaryUnaryMultiCallable[oip.ModelInferRequest, oip.ModelInferResponse] = (
            channel.unary_unary(
                INFER,
                request_serializer=oip.ModelInferRequest.SerializeToString,
                response_deserializer=oip.ModelInferResponse.FromString,
            )
        )

        async def ask(image: bytes, due: float) -> None:
            request = oip.ModelInferRequest(model_name=MODEL, raw_input_contents=[image])
            request.inputs.add(name="image", datatype="FP32", shape=[1, 28, 28, 1])
            try:
                answer = await infer(request, timeout=10)
            except grpc.aio.AioRpcError as error:
                outcome.failed.append(f"{error.code().name}: {error.details()}")
                return
            if list(answer.raw_output_contents) == [image[: 4 * VALUES]]:
                outcome.seconds.append(time.monotonic() - due)
            else:
                outcome.failed.append("the answer is that of another request")

        async with asyncio.TaskGroup() as group:
            remaining = iter(images)
            async for due in arrivals(rate, count, Random(seed)):
                group.create_task(ask(next(remaining).tobytes(), due))
    return outcome
