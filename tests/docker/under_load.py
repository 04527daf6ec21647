"""Load through the edge while something happens: from before it begins until after it has ended."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from services.protocol import open_inference_pb2 as oip
from tests.docker.stack import Stack
from tests.load import TOLERANCE, Outcome, distinct_images, drive, reference
from tests.serving import MODEL

INFER = "/inference.GRPCInferenceService/ModelInfer"
CONNECTIONS = 8
ROUND = 200
"""Images of one round; rounds follow each other without a pause."""
DEADLINE_SECONDS = 30.0

Send = Callable[[NDArray[np.float32]], Outcome]


@dataclass(frozen=True, slots=True)
class Passed:
    """What came of it.

    Attributes:
        seconds: how long the event took.
        failed: what was said instead of the right answers.
        slowest_seconds: of the requests that were answered.
    """

    seconds: float
    failed: list[str]
    slowest_seconds: float


def under_load(stack: Stack, event: Callable[[], Any], *, seed: int) -> Passed:
    """Send distinct images over many REST connections and one gRPC connection while the event happens.

    Args:
        stack: whose edge is asked.
        event: what happens; it returns when it is over.
        seed: of the images; each test has one of its own, so that no answer comes from the cache.
    """
    with grpc.insecure_channel(stack.grpc) as channel, ThreadPoolExecutor() as pool:
        sends: tuple[Send, ...] = (partial(_over_rest, stack.http), partial(_over_grpc, channel))
        begun, over = [Event() for _ in sends], Event()
        loads = [
            pool.submit(_rounds, send, 10_000 * seed + 1000 * number, begun[number], over)
            for number, send in enumerate(sends)
        ]
        try:
            assert all(each.wait(DEADLINE_SECONDS) for each in begun), "the load did not begin"
            started = time.monotonic()
            event()
            seconds = time.monotonic() - started
        finally:
            over.set()
        outcomes = [outcome for load in loads for outcome in load.result()]
    failed = [why for outcome in outcomes for why in outcome.failed.values()]
    return Passed(seconds, failed, max(each for outcome in outcomes for each in outcome.seconds))


def _rounds(send: Send, seed: int, begun: Event, over: Event) -> list[Outcome]:
    """Rounds until the event is over, and one more."""
    outcomes: list[Outcome] = []
    last = False
    while not last:
        last = over.is_set()
        outcomes.append(send(distinct_images(ROUND, seed=seed + len(outcomes))))
        begun.set()
    return outcomes


def _over_rest(address: str, images: NDArray[np.float32]) -> Outcome:
    return asyncio.run(drive(address, images, connections=CONNECTIONS))


def _over_grpc(channel: grpc.Channel, images: NDArray[np.float32]) -> Outcome:
    """One call after the other."""
    call = channel.unary_unary(
        INFER,
        request_serializer=oip.ModelInferRequest.SerializeToString,
        response_deserializer=oip.ModelInferResponse.FromString,
    )
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=[1, 28, 28, 1])
    outcome = Outcome()
    for index, (image, expected) in enumerate(zip(images, reference(images), strict=True)):
        asked = oip.ModelInferRequest(model_name=MODEL, inputs=[tensor], raw_input_contents=[image.tobytes()])
        started = time.monotonic()
        try:
            reply = call(asked, timeout=DEADLINE_SECONDS)
        except grpc.RpcError as error:
            outcome.failed[index] = repr(error)
            continue
        outcome.seconds.append(time.monotonic() - started)
        row = np.frombuffer(reply.raw_output_contents[0], "<f4")
        if np.abs(row - expected).max() > TOLERANCE:
            outcome.failed[index] = repr(row)
    return outcome
