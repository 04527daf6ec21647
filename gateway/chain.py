"""The one abstraction: an Infer, and how stages wrap one another."""

from collections.abc import Callable
from functools import reduce
from typing import Protocol

from gateway.inference import InferRequest, InferResponse


class Infer(Protocol):
    """Anything that answers an inference request: a stage, a balancer, a backend, a fake."""

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request, or raise an `InferwayError`."""
        ...


Stage = Callable[[Infer], Infer]
"""A stage class with its options bound, waiting for what it wraps: `partial(Cached, store=...)`."""


def chain(*stages: Stage, to: Infer) -> Infer:
    """Wrap `to` in `stages`, listed in the order in which a request meets them."""
    return reduce(lambda inner, stage: stage(inner), reversed(stages), to)
