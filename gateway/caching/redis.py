"""The second tier: Redis, shared by every gateway process, and never waited for when it is down."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress

import structlog

from gateway.caching.joined import Joined
from gateway.inference import InferResponse
from gateway.metrics import Metrics
from gateway.redis_link import RedisLink
from gateway.redis_node import RedisDown, RedisNode
from gateway.tensor_frame import FrameError, pack, unpack

PREFIX = b"inferway:3:"
"""Namespace and layout version of the entries: another layout takes another number and finds nothing. The
model's name follows, so that its entries can be found, and then the content key."""

SCAN_COUNT = 1000
"""Keys that Redis looks at for one SCAN: a few hundred microseconds, in which it does nothing else."""

TRIP_ITEMS = 128
TRIPS = 2
"""Joined look-ups under way at once, and joined writes. While they are, the next ones gather: the more there
is to ask, the more is asked at once."""
WAITING = 512
"""Look-ups that may wait for a trip, and writes: two rounds of full trips. None takes longer than the link's
timeout, and after one that did the others are not tried, so a request waits for three timeouts at most."""
WRITING_BYTES = 64 * 1024 * 1024
"""Of answers on their way to Redis."""

_Put = tuple[bytes, InferResponse, float]
"""Key, answer, and until when it is kept, by the store's clock."""

_log = structlog.get_logger()


class RedisStore:
    """Answers as tensor frames in Redis; fails open.

    What is asked for in one tick of the event loop goes in one round trip to each node that has some of it;
    so do the answers that are to be kept. What finds too much waiting is not asked for, or not kept.

    Args:
        link: to Redis.
        metrics: count what was given up.
        clock: seconds, monotonic.

    Attributes:
        answers_at_once: not so, Redis is waited for.
        voids: how often answers were voided.
    """

    def __init__(
        self, link: RedisLink, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._link = link
        self._clock = clock
        self._look_ups: Joined[bytes, bytes | None] = Joined(
            self._fetch, items_max=TRIP_ITEMS, trips_max=TRIPS, waiting_max=WAITING
        )
        self._puts: Joined[_Put, None] = Joined(
            self._write, items_max=TRIP_ITEMS, trips_max=TRIPS, waiting_max=WAITING
        )
        self._writes: set[asyncio.Future[None]] = set()
        self._writing_bytes = 0
        self._look_ups_skipped = metrics.redis_skipped.labels("look_up")
        self._writes_skipped = metrics.redis_skipped.labels("write")
        self.answers_at_once = False
        self.voids = 0

    async def get(self, model: str, key: bytes, /) -> InferResponse | None:
        """The answer under `key`; None when it is not there, not readable, or Redis is down or behind."""
        if self._link.is_down:
            return None
        reply = self._look_ups.ask(_prefix(model) + key)
        if reply is None:
            self._look_ups_skipped.inc()
            return None
        frame = await reply
        if frame is None:
            return None
        try:
            meta, outputs = unpack(frame)
            return InferResponse(
                model=meta["model"],
                version=meta["version"],
                variant=meta["variant"],
                backend=meta["backend"],
                endpoint=meta["endpoint"],
                parameters=meta["parameters"],
                expires_at=meta["expires_at"],
                computed_seconds=meta["computed_seconds"],
                outputs=outputs,
            )
        except (FrameError, KeyError) as error:
            _log.warning("cache_entry_unreadable", key=key.hex(), error=str(error))
            return None

    async def put(self, key: bytes, response: InferResponse, ttl_seconds: float, /) -> None:
        """Send an answer on its way; the caller does not wait for Redis to have it."""
        if self._link.is_down:
            return
        size_bytes = sum(len(tensor.data) for tensor in response.outputs)
        write = None
        if self._writing_bytes + size_bytes <= WRITING_BYTES:
            write = self._puts.ask((_prefix(response.model) + key, response, self._clock() + ttl_seconds))
        if write is None:
            self._writes_skipped.inc()
            return
        self._writing_bytes += size_bytes
        self._writes.add(write)
        write.add_done_callback(lambda write: self._written(write, size_bytes))

    async def settle(self) -> None:
        """Keep no answer that is computed now, and wait for those that are on their way to Redis.

        Before a model is voided, every process does this: else one from before might arrive after.
        """
        self.voids += 1
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def void(self, model: str) -> int | None:
        """Drop every answer of a model, for all gateways; how many there were, or None if Redis is down.

        SCAN goes over every key of the database a thousand at a time, other commands in between, and UNLINK
        frees the memory in a thread of its own (https://redis.io/docs/latest/commands/scan/).
        """
        if not await self._link.ping():
            return None
        try:
            return sum([await _void_on(node, model) for node in self._link.nodes])
        except RedisDown:
            return None

    async def aclose(self) -> None:
        """Finish the writes under way and give up the connections."""
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._link.aclose()

    def _written(self, write: asyncio.Future[None], size_bytes: int) -> None:
        self._writes.discard(write)
        self._writing_bytes -= size_bytes

    async def _fetch(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """One trip of look-ups; None for what is not there or cannot be asked for."""
        found: dict[bytes, bytes | None] = {}

        async def fetch(node: RedisNode, numbers: Sequence[int]) -> None:
            asked = [keys[number] for number in numbers]
            found.update(zip(asked, await node.get_many(asked), strict=True))

        await self._on_each_node(keys, fetch)
        return [found.get(key) for key in keys]

    async def _write(self, puts: Sequence[_Put]) -> list[None]:
        """One trip of answers that are to be kept."""

        async def write(node: RedisNode, numbers: Sequence[int]) -> None:
            now = self._clock()
            await node.set_many(
                [
                    (key, _framed(response), max(1, round(1000 * (ends - now))))
                    for key, response, ends in (puts[number] for number in numbers)
                ]
            )

        await self._on_each_node([key for key, _, _ in puts], write)
        return [None] * len(puts)

    async def _on_each_node(
        self, keys: Sequence[bytes], visit: Callable[[RedisNode, Sequence[int]], Coroutine[None, None, None]]
    ) -> None:
        """Visit every node that has some of the keys, with their numbers; one that is down harms no other."""
        numbers: dict[RedisNode, list[int]] = defaultdict(list)
        for number, key in enumerate(keys):
            with suppress(RedisDown):
                numbers[await self._link.node_of(key)].append(number)
        visits = [visit(node, its_own) for node, its_own in numbers.items()]
        if len(visits) == 1:  # as without a cluster: spares a task
            with suppress(RedisDown):
                await visits[0]
            return
        for outcome in await asyncio.gather(*visits, return_exceptions=True):
            if outcome is not None and not isinstance(outcome, RedisDown):
                raise outcome


async def _void_on(node: RedisNode, model: str) -> int:
    """Drop every answer of a model that a node has; how many there were. RedisDown if it is down."""
    dropped, cursor = 0, 0
    pattern = _prefix(model) + b"*"  # a model's name has nothing that a pattern gives a meaning
    while True:
        cursor, keys = await node.attempt(node.redis.scan, cursor, match=pattern, count=SCAN_COUNT)
        if keys:
            dropped += await node.unlink_many(keys)
        if cursor == 0:
            return dropped


def _framed(response: InferResponse) -> bytes:
    meta = {
        "model": response.model,
        "version": response.version,
        "variant": response.variant,
        "backend": response.backend,
        "endpoint": response.endpoint,
        "parameters": dict(response.parameters),
        "expires_at": response.expires_at,
        "computed_seconds": response.computed_seconds,
    }
    return pack(meta, response.outputs)


def _prefix(model: str) -> bytes:
    return PREFIX + model.encode() + b":"
