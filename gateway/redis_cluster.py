"""A Redis cluster: which of its masters has which key, and each master on its own.

redis-py's client of a cluster is not used: it learns the cluster anew, and gives up every connection,
whenever one node fails. Here a node that fails is left alone and the others go on. What a node refuses
because a slot has just moved (MOVED, ASK:
https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/) counts as not there; within a
second the new owner is known.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from redis.crc import key_slot

from gateway.redis_node import RedisDown, RedisNode

SLOTS = 16384

Range = tuple[int, int, str]
"""First and last slot, and the host:port of the master that has them."""


def masters_in(reply: Sequence[Sequence[Any]], asked: str) -> list[Range]:
    """Who has which slots.

    Args:
        reply: to CLUSTER SLOTS: first and last slot, then host, port and more of the master and of its
            replicas.
        asked: the host that gave it; one that does not know its own address leaves it out.
    """
    ranges = []
    for first, last, (host, port, *_), *_ in reply:
        name = host.decode() if host else asked
        ranges.append((first, last, f"[{name}]:{port}" if ":" in name else f"{name}:{port}"))
    return sorted(ranges)


class RedisCluster:
    """The masters of a cluster.

    Args:
        url: of any of its nodes, or of a name that leads to several.
        tell_up: told the share of the masters that answer, when it changes.
        options: of every RedisNode.
    """

    def __init__(self, url: str, *, tell_up: Callable[[float], None], **options: Any) -> None:
        self._url = url
        self._tell_up = tell_up
        self._options = options
        self._seed = self._new_node(url)
        self._masters: dict[str, RedisNode] = {}
        self._ranges: list[Range] = []
        self._owners: list[RedisNode | None] = []
        self._learning: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._turns = itertools.count()

    @property
    def nodes(self) -> Sequence[RedisNode]:
        """The masters that are known; at first the node that the URL leads to."""
        return list(self._masters.values()) or [self._seed]

    @property
    def is_down(self) -> bool:
        """Whether every node has failed just now and is left alone."""
        return all(node.is_down for node in self.nodes)

    async def node_of(self, key: bytes) -> RedisNode:
        """The master that has a key.

        Raises:
            RedisDown: nobody has it, or nobody says who.
        """
        if not self._owners:
            await self._learn()
        owner = self._owners[key_slot(key)] if self._owners else None
        if owner is None:
            raise RedisDown("no master is known that has the key")
        return owner

    async def ping(self) -> bool:
        """Learn who has which slots now; whether somebody has each and answers. Keeps the metric true."""
        await self._learn()
        answer = await asyncio.gather(*(node.ping() for node in self.nodes))
        return all(answer) and bool(self._owners) and None not in self._owners

    async def aclose(self) -> None:
        """Give up the connections."""
        if self._learning is not None:
            await self._learning
        await asyncio.gather(*(node.aclose() for node in {self._seed, *self.nodes}), *self._leaving)

    async def _learn(self) -> None:
        """Ask who has which slots, once for all who wait."""
        if self._learning is None:
            self._learning = asyncio.create_task(self._ask())
            self._learning.add_done_callback(self._learned)
        await asyncio.shield(self._learning)

    def _learned(self, _: asyncio.Task[None]) -> None:
        self._learning = None

    async def _ask(self) -> None:
        """Ask the masters, another one first each time, and at last the seed; else what was known stays."""
        nodes = list(self._masters.values())
        turn = next(self._turns) % max(1, len(nodes))
        for node in (*nodes[turn:], *nodes[:turn], self._seed):
            try:
                reply = await node.attempt(node.redis.execute_command, "CLUSTER SLOTS")
            except RedisDown:
                continue
            self._take(masters_in(reply, urlsplit(node.url).hostname or ""))
            return

    def _take(self, ranges: list[Range]) -> None:
        if ranges == self._ranges:
            return
        old, self._ranges = self._masters, ranges
        addresses = {address for _, _, address in ranges}
        self._masters = {
            address: old.get(address) or self._new_node(self._at(address)) for address in addresses
        }
        self._owners = [None] * SLOTS
        for first, last, address in ranges:
            self._owners[first : last + 1] = [self._masters[address]] * (last + 1 - first)
        for address in old.keys() - addresses:
            leaving = asyncio.create_task(old[address].aclose())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        self._told()

    def _new_node(self, url: str) -> RedisNode:
        return RedisNode(url, tell_up=self._told, in_cluster=True, **self._options)

    def _at(self, address: str) -> str:
        """The URL of a node: that of the settings, elsewhere."""
        parts = urlsplit(self._url)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}{address}").geturl()

    def _told(self, _: float = 0.0) -> None:
        up = sum(node.is_up for node in self._masters.values())  # none while no node says who they are
        self._tell_up(up / max(1, len(self._masters)))
