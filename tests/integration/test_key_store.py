"""Keys in a real redis-server: found, remembered while it is down, and unknown ones refused then."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge
from redis import Redis

from gateway.configuration import ConfigurationError
from gateway.errors import Unauthenticated
from gateway.keys import key_store
from gateway.keys.key import KeySpec, new_secret, split
from gateway.keys.key_store import PREFIX, UNKNOWN_SECONDS, KeyStore
from gateway.keys.keyring import Keyring
from gateway.redis_link import open_link
from gateway.redis_node import CONNECTIONS, RedisNode
from gateway.security_settings import RedisSettings
from services import redis
from services.launch import Launch, Running, free_port
from tests.certificates import Authority
from tests.fakes import FakeClock

FRESH_SECONDS = 30.0


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    return redis.launch(run_dir=tmp_path_factory.mktemp("redis"), port=free_port())


@pytest.fixture(scope="module")
def url(launch: Launch) -> Iterator[str]:
    with Running(launch):
        yield f"redis://{launch.addresses['redis']}/0"


class Rig:
    """A keyring whose keys are in Redis."""

    def __init__(self, url: str) -> None:
        self.clock = FakeClock()
        up = Gauge("up", "Whether Redis answers.", registry=None)
        self.link = RedisNode(url, timeout_seconds=30.0, retry_after_seconds=0.1, tell_up=up.set)
        self.store = KeyStore(self.link, fresh_seconds=FRESH_SECONDS, clock=self.clock)
        self.keyring = Keyring(store=self.store)

    async def opens(self, key: str) -> bool:
        try:
            await self.keyring.find(key)
        except Unauthenticated:
            return False
        return True


async def test_made_up_ids_leave_connections_to_redis_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig("redis://127.0.0.1:1/0")
    at_once: list[int] = [0]

    async def attempt(*_: object) -> None:
        at_once.append(at_once[-1] + 1)
        await asyncio.sleep(0)
        at_once.append(at_once[-1] - 1)

    monkeypatch.setattr(rig.link, "attempt", attempt)
    await asyncio.gather(*(rig.store.find(f"{number:012x}") for number in range(1000)))
    assert len(at_once) == 1 + 2 * 1000
    assert max(at_once) < CONNECTIONS / 2


@asynccontextmanager
async def a_rig(url: str) -> AsyncIterator[Rig]:
    rig = Rig(url)
    try:
        yield rig
    finally:
        await rig.keyring.aclose()


def stored(url: str, *, disabled: bool = False) -> str:
    """A new key, in Redis."""
    key_id, sha256, whole = new_secret()
    put(url, key_id, KeySpec(name="team", sha256=sha256, disabled=disabled).model_dump_json())
    return whole


def put(url: str, key_id: str, text: str | None) -> None:
    with Redis.from_url(url) as client:
        client.set(PREFIX + key_id, text) if text is not None else client.delete(PREFIX + key_id)


async def test_a_stored_key_opens_and_no_other(url: str) -> None:
    key = stored(url)
    async with a_rig(url) as rig:
        assert await rig.opens(key)
        assert not await rig.opens(new_secret()[2])
        assert not await rig.opens(key[:-1] + ("A" if key[-1] != "A" else "B"))
        assert not await rig.opens(stored(url, disabled=True))


async def test_a_key_in_use_costs_redis_nothing_and_its_end_is_noticed(url: str) -> None:
    key = stored(url)
    async with a_rig(url) as rig:
        assert await rig.opens(key)
        put(url, split(key)[0], None)
        rig.clock.now += FRESH_SECONDS / 2 - 1
        assert await rig.opens(key)
        rig.clock.now += 2  # from here on it is asked in the background
        assert await rig.opens(key)
        await asyncio.gather(*rig.store._reading.values())
        assert not await rig.opens(key)


async def test_a_key_that_was_not_used_for_long_is_asked_again_before_it_opens(url: str) -> None:
    key = stored(url)
    async with a_rig(url) as rig:
        assert await rig.opens(key)
        put(url, split(key)[0], None)
        rig.clock.now += FRESH_SECONDS
        assert not await rig.opens(key)


async def test_an_unknown_id_is_refused_for_a_while_without_asking_again(url: str) -> None:
    key_id, sha256, whole = new_secret()
    async with a_rig(url) as rig:
        assert not await rig.opens(whole)
        put(url, key_id, KeySpec(name="late", sha256=sha256).model_dump_json())
        assert not await rig.opens(whole)
        rig.clock.now += UNKNOWN_SECONDS
        assert await rig.opens(whole)


async def test_made_up_ids_do_not_fill_the_memory(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_store, "UNKNOWN_MAX", 10)
    async with a_rig(url) as rig:
        for _ in range(30):
            assert not await rig.opens(new_secret()[2])
        assert len(rig.store._unknown) == 10


async def test_what_cannot_be_read_opens_nothing(url: str) -> None:
    key = stored(url)
    put(url, split(key)[0], '{"name": "x"}')
    async with a_rig(url) as rig:
        assert not await rig.opens(key)


async def test_while_redis_is_down_known_keys_open_and_unknown_ones_do_not(tmp_path: Path) -> None:
    launch = redis.launch(run_dir=tmp_path, port=free_port())
    url = f"redis://{launch.addresses['redis']}/0"
    async with a_rig(url) as rig:
        with Running(launch):
            known, other = stored(url), stored(url)
            assert await rig.opens(known)
        rig.clock.now += 10 * FRESH_SECONDS
        assert await rig.opens(known)
        assert not await rig.opens(other)


async def test_redis_over_tls_is_trusted_by_its_ca_only(tmp_path: Path) -> None:
    files = Authority(tmp_path / "ca").issue("redis")
    port = free_port()
    options = ("--tls-port", str(port), "--port", "0", "--tls-auth-clients", "no")
    certificate = ("--tls-cert-file", str(files.certificate), "--tls-key-file", str(files.key))
    plain = redis.launch(run_dir=tmp_path, port=port)
    argv = [*plain.argv, *options, *certificate, "--tls-ca-cert-file", str(files.ca), "--requirepass", "word"]
    (tmp_path / "word.txt").write_text("word\n")
    secured = Launch("redis", argv, is_ready=lambda: listens(port), log=tmp_path / "tls.log", cwd=tmp_path)
    with Running(secured):
        stranger = Authority(tmp_path / "other").ca
        for ca, answers in ((files.ca, True), (stranger, False)):
            settings = RedisSettings.model_validate(
                {
                    "url": f"rediss://127.0.0.1:{port}/0",
                    "ca": str(ca),
                    "password_file": "word.txt",
                    "timeout_seconds": 10.0,
                }
            )
            up = Gauge("up", "Whether Redis answers.", registry=None)
            link = open_link(settings, tmp_path, purpose="keys", up=up, registry=CollectorRegistry())
            assert link is not None
            assert await link.ping() is answers
            await link.aclose()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_file_of_redis_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    up = Gauge("up", "Whether Redis answers.", registry=None)
    url = "rediss://127.0.0.1/0"
    for name in ("ca", "password_file"):
        settings = RedisSettings.model_validate({"url": url, name: "nope"})
        with pytest.raises(ConfigurationError, match=r"quotas: redis: there is no file .*nope"):
            open_link(settings, tmp_path, purpose="quotas", up=up, registry=CollectorRegistry())
