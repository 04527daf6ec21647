"""A membership over fakes: what it finds, how long it sleeps and what endpoints say is a test's."""

import asyncio
from random import Random

from prometheus_client import CollectorRegistry

from gateway.balancing.balancer import Balancer
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.health_check import HealthCheck
from gateway.balancing.membership import FilledPool, Membership, Opened
from gateway.inference import PoolKey
from gateway.metrics import Metrics
from tests.fakes import FakeInfer, a_request, settle

FP32, INT8 = PoolKey("adder", "1", "fp32"), PoolKey("adder", "1", "int8")
INTERVAL_SECONDS = 5.0
REQUEST = a_request(version="1", variant="fp32")


class Client(FakeInfer):
    """A backend that says ready as it was told to, and knows whether it was closed."""

    def __init__(self, *, says_ready: bool) -> None:
        super().__init__()
        self.says_ready = says_ready
        self.is_closed = False

    async def is_ready(self, _model: str, _version: str, _variant: str, /) -> bool:
        return self.says_ready

    async def aclose(self) -> None:
        self.is_closed = True


class Sleeps:
    """`asyncio.sleep` that lasts until a test lets it end."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, asyncio.Event]] = []

    async def __call__(self, seconds: float) -> None:
        over = asyncio.Event()
        self._waiting.append((seconds, over))
        await over.wait()

    async def end(self, seconds: float) -> None:
        """Let all that last so long end, and everything run that follows."""
        ending = [over for length, over in self._waiting if length == seconds]
        self._waiting = [one for one in self._waiting if one[0] != seconds]
        assert ending, f"nobody sleeps for {seconds} s"
        for over in ending:
            over.set()
        await settle()


class Rig:
    """A membership of two pools, and of a shadow's that serves the same as one of them, over fakes.

    Attributes:
        found: what its source finds, or raises, once `answers` is set.
        are_ready: what clients that are opened from now on say.
    """

    def __init__(self) -> None:
        self.found: frozenset[str] | Exception = frozenset()
        self.answers = asyncio.Event()
        self.answers.set()
        self.are_ready = True
        self.clients: list[tuple[str, str, Client]] = []
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        self.pools = {
            key: Balancer((), pool=key, attempt_timeout_seconds=60.0, metrics=metrics, rng=Random(7))  # noqa: S311
            for key in (FP32, INT8)
        }
        for pool in self.pools.values():
            pool.publish()
        self.shadows_pool = Balancer(
            (),
            pool=FP32,
            attempt_timeout_seconds=60.0,
            metrics=Metrics(CollectorRegistry()),
            rng=Random(7),  # noqa: S311
        )
        self.drained: set[str] = set()
        self.health = HealthCheck(interval_seconds=0, timeout_seconds=1)
        self.sleeps = Sleeps()
        self.membership = Membership(
            "triton",
            source=self._look,
            pools=[
                FilledPool(key, pool, lambda name, backend: Endpoint(name, "fake", backend))
                for key, pool in (*self.pools.items(), (FP32, self.shadows_pool))
            ],
            open_client=self._open,
            health=self.health,
            drained=self.drained,
            interval_seconds=INTERVAL_SECONDS,
            lookups=metrics.discovery_lookups,
            sleep=self.sleeps,
        )

    async def _look(self) -> frozenset[str]:
        await self.answers.wait()
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def _open(self, name: str, address: str) -> Opened:
        client = Client(says_ready=self.are_ready)
        self.clients.append((name, address, client))
        return Opened(client, client.aclose)

    async def start(self, *addresses: str) -> None:
        self.found = frozenset(addresses)
        await self.membership.start()
        await settle()

    async def look(self, found: Exception | None = None, *addresses: str) -> None:
        """The next look-up."""
        self.found = found or frozenset(addresses)
        await self.sleeps.end(INTERVAL_SECONDS)

    def client(self, address: str) -> Client:
        """The latest of an address."""
        return next(client for _, other, client in reversed(self.clients) if other == address)

    def names(self, key: PoolKey = FP32) -> list[str]:
        return [endpoint.name for endpoint in self.pools[key].endpoints]

    def series(self) -> set[str]:
        """The endpoints that have series of their own."""
        families = [f for f in self.registry.collect() if f.name.startswith("gateway_endpoint_")]
        return {sample.labels["endpoint"] for family in families for sample in family.samples}

    def heals(self) -> set[tuple[str, str, float]]:
        """Endpoint, result and count of each series."""
        family = next(f for f in self.registry.collect() if f.name == "gateway_endpoint_heals")
        return {
            (one.labels["endpoint"], one.labels["result"], one.value)
            for one in family.samples
            if one.name.endswith("_total")
        }

    def lookups(self, result: str) -> float:
        labels = {"endpoint": "triton", "result": result}
        return self.registry.get_sample_value("gateway_discovery_lookups_total", labels) or 0.0
