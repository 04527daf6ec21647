"""Where answers are kept, and the key under which they lie."""

from typing import Protocol

from gateway.inference import InferResponse


class Store(Protocol):
    """One cache tier. It never fails: a tier that cannot answer has no answer, and says so in a metric."""

    async def get(self, key: bytes, /) -> InferResponse | None:
        """The answer under `key`, or None."""
        ...

    async def put(self, key: bytes, response: InferResponse, ttl_seconds: float, /) -> None:
        """Keep an answer for `ttl_seconds`."""
        ...
