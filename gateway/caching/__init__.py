"""Where answers are kept, and the key under which they lie."""

from typing import Protocol

from gateway.inference import InferResponse


class Store(Protocol):
    """One cache tier. It never fails: a tier that cannot answer has no answer, and says so in a metric.

    Attributes:
        voids: how often answers were voided. Who asks an engine while it grows has an answer that may be from
            before, and does not keep it.
        answers_at_once: whether `get` never waits for anything.
    """

    voids: int
    answers_at_once: bool

    async def get(self, model: str, key: bytes, /) -> InferResponse | None:
        """The answer of a model under `key`, or None."""
        ...

    async def put(self, key: bytes, response: InferResponse, ttl_seconds: float, /) -> None:
        """Keep an answer for `ttl_seconds`."""
        ...
