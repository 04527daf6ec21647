"""Steady load for the chaos tests: REST and gRPC at a fixed rate, distinct images, answers checked.

The loop is open: requests are sent when they are due, whatever became of those before, so that a gateway that
stands still is seen by as many requests as come in that time. The client never tries again.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from grpc import aio
from numpy.typing import NDArray

from services.protocol import open_inference_pb2 as oip
from tests.load import TOLERANCE, binary_request, distinct_images, read_reply, reference
from tests.serving import MODEL

METHOD = "/inference.GRPCInferenceService/ModelInfer"
GRPC_EVERY = 4
"""One request in so many goes over gRPC: its client costs the machine ten times what REST does."""
GRPC_CHANNELS = 4
VARIANTS = ("fp32", "pruned")
"""What may answer, where a canary is drawn: each has right answers of its own."""
CLIENT_SECONDS = 20.0
"""After which the client gives up: twice the model's own deadline, so that it is the gateway that decides."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request.

    Attributes:
        sent: seconds since the load began.
        seconds: until its reply.
        failed: what was said instead of the right answer; empty when it was right.
        backend: who answered.
        is_grpc: over which protocol.
    """

    sent: float
    seconds: float
    failed: str = ""
    backend: str = ""
    is_grpc: bool = False


@dataclass(slots=True)
class Steady:
    """A load that runs from `start` until `stop`.

    Args:
        http: host:port of the gateway.
        grpc: the same.
        rate: requests a second.
        longest_seconds: for how long there are images.
    """

    http: str
    grpc: str
    rate: float
    longest_seconds: float
    samples: list[Sample] = field(default_factory=list)
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    _channels: list[aio.Channel] = field(default_factory=list)
    _began: float = 0.0
    _asking: set[asyncio.Task[None]] = field(default_factory=set)
    _sending: asyncio.Task[None] | None = None
    _images: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    _expected: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def start(self, seed: int) -> None:
        """Begin; `seed` makes the images, so that no two loads share one."""
        self._images = distinct_images(round(self.rate * self.longest_seconds), seed)
        self._expected = {variant: reference(self._images, variant) for variant in VARIANTS}
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [aio.insecure_channel(self.grpc, options) for _ in range(GRPC_CHANNELS)]
        self._began = time.monotonic()
        self._sending = asyncio.create_task(self._send())

    @property
    def now(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    async def stop(self) -> list[Sample]:
        """Send no more, wait for every reply, and return what came of all."""
        assert self._sending is not None
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
        await asyncio.gather(*self._asking)
        for _, writer in self._idle:
            writer.close()
        for channel in self._channels:
            await channel.close()
        return sorted(self.samples, key=lambda sample: sample.sent)

    async def _send(self) -> None:
        for index in itertools.count():
            await asyncio.sleep(self._began + index / self.rate - time.monotonic())
            assert index < len(self._images), "the load ran longer than it has images for"
            is_grpc = index % GRPC_EVERY == 0
            asking = self._over_grpc(index) if is_grpc else self._over_http(index)
            task = asyncio.create_task(self._one(asking, is_grpc=is_grpc))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _one(self, asking: Awaitable[tuple[str, str]], *, is_grpc: bool) -> None:
        sent = self.now
        try:
            async with asyncio.timeout(CLIENT_SECONDS):
                failed, backend = await asking
        except (OSError, EOFError, TimeoutError) as error:
            failed, backend = repr(error), ""
        except aio.AioRpcError as error:
            failed, backend = f"{error.code().name}: {error.details()}", ""
        self.samples.append(Sample(sent, self.now - sent, failed, backend, is_grpc))

    async def _over_http(self, index: int) -> tuple[str, str]:
        reader, writer = self._connection() or await asyncio.open_connection(*self.http.split(":"))
        try:
            writer.write(binary_request(self._images[index]))
            status, headers, body = await read_reply(reader)
        except BaseException:
            writer.close()
            raise
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        backend = headers.get("x-inferway-backend", "")
        start = int(headers.get("inference-header-content-length", len(body)))
        if status == 200 and self._is_right(index, headers["x-inferway-variant"], body[start:]):
            return "", backend
        return f"{status}: {body[:200]!r}", backend

    async def _over_grpc(self, index: int) -> tuple[str, str]:
        message = oip.ModelInferRequest(model_name=MODEL)
        message.inputs.add(name="image", datatype="FP32", shape=[1, 28, 28, 1])
        message.raw_input_contents.append(self._images[index].tobytes())
        channel = self._channels[index // GRPC_EVERY % GRPC_CHANNELS]
        call = channel.unary_unary(
            METHOD,
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelInferResponse.FromString,
        )
        reply: oip.ModelInferResponse = await call(message)
        backend = reply.parameters["x-inferway-backend"].string_param
        variant = reply.parameters["x-inferway-variant"].string_param
        if self._is_right(index, variant, reply.raw_output_contents[0]):
            return "", backend
        return f"wrong answer from {backend}", backend

    def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """One that is idle, and that the gateway has not closed."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    def _is_right(self, index: int, variant: str, data: bytes) -> bool:
        row = np.frombuffer(data, "<f4")
        expected = self._expected[variant][index]
        return row.shape == expected.shape and bool(np.abs(row - expected).max() <= TOLERANCE)


def p99(samples: Sequence[Sample]) -> float:
    """The 99th percentile of the seconds that requests took; 0 of none."""
    return float(np.percentile([sample.seconds for sample in samples], 99)) if samples else 0.0
