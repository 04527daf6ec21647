"""The Redis of a section of the settings: one, or a cluster of several."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from gateway.configuration import ConfigurationError
from gateway.redis_cluster import RedisCluster
from gateway.redis_node import RedisNode
from gateway.security_settings import RedisSettings

RedisLink = RedisNode | RedisCluster
"""What uses a Redis asks it for the node that has a key, and that node for the key. Commands of a node that
is down raise RedisDown at once."""


def open_link(
    settings: RedisSettings, root: Path, *, purpose: str, up: Gauge, registry: CollectorRegistry
) -> RedisLink | None:
    """The Redis of a section, not yet connected; None when the section names none.

    Args:
        settings: the section.
        root: what its files are relative to.
        purpose: `cache`, `keys` or `quotas`.
        up: the share of its nodes that answer.
        registry: where `up` is registered if there is a Redis: a 0 without one would look like a loss.

    Raises:
        ConfigurationError: a file of it cannot be read.
    """
    if not settings.url:
        return None
    ca = root / settings.ca if settings.ca else None
    password = root / settings.password_file if settings.password_file else None
    for path in filter(None, (ca, password)):
        if not path.is_file():
            raise ConfigurationError(f"{purpose}: redis: there is no file {path}")
    registry.register(up)
    new = RedisCluster if settings.cluster else RedisNode
    return new(
        settings.url,
        purpose=purpose,
        timeout_seconds=settings.timeout_seconds,
        retry_after_seconds=settings.retry_after_seconds,
        tell_up=up.set,
        ca=str(ca) if ca else "",
        password=password.read_text(encoding="utf-8").strip() if password else None,
    )
