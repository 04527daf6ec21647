"""Who may ask, for what, and how often: the edges' one question, asked before a request's body is read."""

from collections.abc import Sequence
from pathlib import Path

from prometheus_client import Counter

from gateway.errors import Refused
from gateway.keys.key import CALLER, Key, presented
from gateway.keys.key_file import KeyFile
from gateway.keys.key_store import KeyStore
from gateway.keys.keyring import Keyring
from gateway.metrics import Metrics
from gateway.quotas.quotas import Quotas
from gateway.redis_link import RedisLink, open_link
from gateway.settings import Settings


class Access:
    """Decides from a request's head.

    Args:
        keyring: the keys.
        quotas: what they have spent.
        metrics: count what is let in and what is refused.
        links: to the Redis of either; to be pinged.
    """

    def __init__(
        self, keyring: Keyring, quotas: Quotas, metrics: Metrics, links: Sequence[RedisLink] = ()
    ) -> None:
        self.keyring = keyring
        self.links = links
        self._quotas = quotas
        self._metrics = metrics
        self._let_in: dict[str, Counter] = {}

    async def admit(
        self, authorization: str, x_api_key: str, *, model: str = "", spends: bool = True
    ) -> None:
        """Let a request in, and remember whose it is for the rest of its task.

        Args:
            authorization: that header (gRPC: metadata), or empty.
            x_api_key: that header, or empty.
            model: what it wants to infer, where the head says so.
            spends: whether it counts as a request; a stream's requests count one by one, see `admit_again`.

        Raises:
            Unauthenticated: no key, or none that is valid.
            ModelForbidden: the key may not call the model.
            QuotaExceeded: the key is over its rate or quota.
        """
        try:
            key = await self.keyring.find(presented(authorization, x_api_key))
        except Refused as error:
            self._metrics.refused.labels(error.reason).inc()
            raise
        CALLER.set(key)
        if model:
            self.check_model(model)
        if spends:
            await self._spend(key)

    async def admit_again(self) -> None:
        """Let one more request of a stream in, by the key that began the stream, as it is now.

        Raises:
            Unauthenticated: the key is not valid any more.
            QuotaExceeded: it is over its rate or quota.
        """
        key = CALLER.get()
        if key is None:
            return
        try:
            key = await self.keyring.again(key)
        except Refused as error:
            self._metrics.refused.labels(error.reason).inc()
            raise
        CALLER.set(key)
        await self._spend(key)

    async def _spend(self, key: Key) -> None:
        try:
            await self._quotas.spend(key)
        except Refused as error:
            self._count(error, key)
            raise
        counter = self._let_in.get(key.name)
        if counter is None:
            counter = self._let_in[key.name] = self._metrics.key_requests.labels(key.name, "let_in")
        counter.inc()

    def check_model(self, model: str) -> None:
        """See that the key of this task's caller may call `model`.

        Raises:
            ModelForbidden: it may not.
        """
        key = CALLER.get()
        if key is None:
            return
        try:
            key.check_model(model)
        except Refused as error:
            self._count(error, key)
            raise

    def _count(self, error: Refused, key: Key) -> None:
        self._metrics.refused.labels(error.reason).inc()
        self._metrics.key_requests.labels(key.name, error.reason).inc()

    async def aclose(self) -> None:
        """Give back leases, and give up connections."""
        await self._quotas.aclose()
        await self.keyring.aclose()


def open_access(settings: Settings, root: Path, metrics: Metrics) -> Access | None:
    """From the settings, not yet connected; None where no keys are configured, and everybody may ask.

    Args:
        settings: of the gateway.
        root: what paths are relative to.
        metrics: of this process.

    Raises:
        ConfigurationError: a file of it cannot be read.
    """
    keys, quotas = settings.keys, settings.quotas
    if not keys.are_on:
        return None
    keys_link = open_link(
        keys.redis, root, purpose="keys", up=metrics.keys_redis_up, registry=metrics.registry
    )
    quota_link = open_link(
        quotas.redis, root, purpose="quotas", up=metrics.quota_redis_up, registry=metrics.registry
    )
    keyring = Keyring(
        KeyFile(root / keys.file) if keys.file else None,
        KeyStore(keys_link, fresh_seconds=keys.fresh_seconds) if keys_link else None,
    )
    spending = Quotas(
        quota_link, lease_seconds=quotas.lease_seconds, local_share_ratio=quotas.local_share_ratio
    )
    links = tuple(link for link in (keys_link, quota_link) if link)
    return Access(keyring, spending, metrics, links)
