"""Recall: a request whose very bytes were answered before is answered from the memory tier, and not read.

The memory tier knows an answer by what its request means. To find that out (decode, check, make the content
key) and to encode the answer costs several times what all the rest of a hit does. So beside the tier stands,
by those bytes, which entry they mean and how it was encoded. The answer stays the tier's: what has expired
there, was voided or made room is not recalled, and what was computed anew is encoded anew.
"""

from collections import OrderedDict
from collections.abc import Collection, Hashable, Mapping
from typing import Generic, NamedTuple, TypeVar

from prometheus_client import Counter

from gateway.caching import Store
from gateway.inference import InferResponse

OVERHEAD_BYTES = 1200
"""What an entry costs beside its bytes: wire form, tuples and header lines."""

ReplyT = TypeVar("ReplyT")


class Recalled(NamedTuple, Generic[ReplyT]):
    """What bytes were answered with.

    Attributes:
        response: the answer, as the memory tier gave it.
        reply: the same, encoded for the caller.
        size_bytes: of both; the answer's tensors may outlive its entry in the tier.
    """

    response: InferResponse
    reply: ReplyT
    size_bytes: int


class Recall(Generic[ReplyT]):
    """The replies of one configuration, least recently used out first, bounded in bytes.

    Args:
        store: the memory tier.
        limit_bytes: how much it may hold.
        hits: where hits of the tier are counted, by the names of the models that it is for. None that has a
            canary is among them: each of their requests is drawn anew, whatever its bytes.
        saved: where the seconds that such a hit saved are counted, by the same names.

    Attributes:
        models: the names of those models.
    """

    def __init__(
        self, store: Store, limit_bytes: int, hits: Mapping[str, Counter], saved: Mapping[str, Counter]
    ) -> None:
        self._store = store
        self._limit_bytes = limit_bytes
        self._hits = hits
        self._saved = saved
        self.models: Collection[str] = hits.keys()
        self._known: OrderedDict[Hashable, Recalled[ReplyT]] = OrderedDict()
        self._size_bytes = 0
        self._voids = store.voids

    @property
    def size_bytes(self) -> int:
        """What it holds."""
        self._heed_voids()
        return self._size_bytes

    def model(self, wire: Hashable) -> str | None:
        """The model that these bytes ask for, for who cannot tell without reading them."""
        known = self._known.get(wire)
        return None if known is None else known.response.model

    async def find(self, wire: Hashable) -> Recalled[ReplyT] | None:
        """What these bytes were answered with, if the memory tier still has that very answer."""
        self._heed_voids()
        known = self._known.get(wire)
        if known is None:
            return None
        model = known.response.model
        response = await self._store.get(model, known.response.key)
        if response is None or response.outputs is not known.response.outputs:
            self._drop(wire)
            return None
        if wire in self._known:  # while the tier was asked, it may have made room
            self._known.move_to_end(wire)
        self._hits[model].inc()
        self._saved[model].inc(response.computed_seconds)
        return known

    def takes(self, response: InferResponse) -> bool:
        """Whether the reply may be kept, which must be a hit of the memory tier.

        A caller that gives its requests ids gives each another, and the reply has it: no bytes come again.
        """
        return response.cache == "memory" and not response.id and response.model in self.models

    def keep(self, wire: Hashable, response: InferResponse, reply: ReplyT, held_bytes: int) -> None:
        """Remember how a hit was encoded.

        Args:
            wire: all that the answer depends on; equal for two requests only if they ask the same.
            response: one that it takes.
            reply: encoded.
            held_bytes: of wire and reply.
        """
        self._heed_voids()
        self._drop(wire)
        size_bytes = held_bytes + sum(len(tensor.data) for tensor in response.outputs) + OVERHEAD_BYTES
        self._known[wire] = Recalled(response, reply, size_bytes)
        self._size_bytes += size_bytes
        while self._size_bytes > self._limit_bytes:
            self._drop(next(iter(self._known)))

    def _heed_voids(self) -> None:
        """Forget all once the tier voids anything, which would else be held until it is asked for."""
        if self._voids != self._store.voids:
            self._voids = self._store.voids
            self._known.clear()
            self._size_bytes = 0

    def _drop(self, wire: Hashable) -> None:
        known = self._known.pop(wire, None)
        if known is not None:
            self._size_bytes -= known.size_bytes
