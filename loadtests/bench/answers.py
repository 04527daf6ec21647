"""Sees that a system answers what the model answers: the speed of wrong answers is worth nothing."""

import asyncio
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from loadtests.bench.closed_loop import LoadFailed
from loadtests.bench.grpc_loop import METHOD
from loadtests.bench.http_client import ask_each
from loadtests.bench.sources import GRPC, Image, grpc_message
from loadtests.bench.systems import System
from services.protocol import open_inference_pb2 as oip
from tests.load import distinct_images, reference

TOLERANCE = 1e-4
"""How far a probability may be from the reference's."""


class WrongAnswer(RuntimeError):
    """A system answered something else than the model."""


def check(system: System, count: int) -> None:
    """Ask for distinct images over each encoding, and over gRPC where the system speaks it.

    Raises:
        WrongAnswer: an answer is not the model's.
        LoadFailed: one was refused.
    """
    images = distinct_images(count, seed=1)
    expected = reference(images)
    for name, encoding in system.encodings.items():
        replies = asyncio.run(ask_each(system.address, encoding.requests(images)))
        for number, (headers, body) in enumerate(replies):
            who = f"{system.title}, {name}, image {number}"
            try:
                answer = encoding.answer(headers, body)
            except (ValueError, LookupError, TypeError) as error:
                raise WrongAnswer(f"{who}: {body[:200]!r} is no answer") from error
            check_one(who, answer, expected[number])
    if system.grpc:
        for number, answer in enumerate(_grpc_answers(system, images)):
            check_one(f"{system.title}, {GRPC}, image {number}", answer, expected[number])


def check_one(who: str, answer: NDArray[Any], expected: NDArray[Any]) -> None:
    """Hold one answer against the model's.

    Raises:
        WrongAnswer: its shape is another, or a value is further away than `TOLERANCE`.
    """
    if answer.shape != expected.shape:
        raise WrongAnswer(f"{who}: {answer.shape} in place of {expected.shape}")
    distance = float(np.abs(answer - expected).max())
    if not distance <= TOLERANCE:
        raise WrongAnswer(f"{who}: {distance:.3g} from the model's answer")


def _grpc_answers(system: System, images: NDArray[np.float32]) -> list[Image]:
    with grpc.insecure_channel(system.grpc) as channel:
        infer: grpc.UnaryUnaryMultiCallable[bytes, oip.ModelInferResponse] = channel.unary_unary(
            METHOD, response_deserializer=oip.ModelInferResponse.FromString
        )
        try:
            replies = [infer(grpc_message(image), metadata=system.metadata, timeout=10) for image in images]
        except grpc.RpcError as error:
            raise LoadFailed(f"{system.title}, {GRPC}: {error}") from error
    return [np.frombuffer(b"".join(reply.raw_output_contents), "<f4") for reply in replies]
