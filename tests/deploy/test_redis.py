"""The Redis of the manifests, by its own command: closed without the password, forgetful of answers alone."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from gateway.keys.key_store import PREFIX as KEYS
from gateway.quotas.lease import LEASE
from gateway.quotas.quotas import PREFIX as QUOTAS
from services.launch import Launch, Running, free_port
from tests.deploy.manifests import Documents, named

PASSWORD = "of-the-test"  # noqa: S105 # pragma: allowlist secret
SECRET = "/etc/inferway-redis/password"  # noqa: S105 - its place
ANSWER_SECONDS, ANSWER = 300, b"x" * 4096
COUNTED = 200
"""Keys with a count of the day."""


@pytest.fixture
def container(rendered: dict[str, Documents]) -> dict[str, Any]:
    stateful_set = named(rendered["base"], "StatefulSet", "redis") or {}
    first: dict[str, Any] = stateful_set["spec"]["template"]["spec"]["containers"][0]
    return first


@pytest.fixture
def port(container: dict[str, Any], tmp_path: Path) -> Iterator[int]:
    """Of a Redis started by the container's command, but for its paths, its port and 8 MB of memory."""
    (tmp_path / "password").write_text(PASSWORD)
    port = free_port()
    command = [
        part.replace(SECRET, str(tmp_path / "password"))
        .replace("maxmemory 256mb", f"maxmemory 8mb\nport {port}")
        .replace("dir /tmp", f"dir {tmp_path}")
        for part in container["command"]
    ]
    assert f"port {port}" in command[-1]
    launch = Launch(
        name="redis",
        argv=command,
        is_ready=lambda: _listens(port),
        log=tmp_path / "redis.log",
        timeout_seconds=10.0,
    )
    with Running(launch):
        yield port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_nobody_asks_without_the_password(port: int) -> None:
    with Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()
    with Redis(port=port, password=PASSWORD) as gateway:
        assert gateway.ping()


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe"])
def test_a_probe_asks_with_the_password_and_says_when_it_is_refused(
    container: dict[str, Any], port: int, probe: str, tmp_path: Path
) -> None:
    command = [
        part.replace(SECRET, str(tmp_path / "password")).replace("redis-cli", f"redis-cli -p {port}")
        for part in container[probe]["exec"]["command"]
    ]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    (tmp_path / "password").write_text("another")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_a_full_redis_forgets_answers_and_neither_keys_nor_what_they_have_spent(port: int) -> None:
    with Redis(port=port, password=PASSWORD) as redis:
        lease = redis.register_script(LEASE)
        for number in range(COUNTED):
            redis.set(f"{KEYS}{number}", "{}")
            lease([f"{QUOTAS}{number}"], [0, 0, 1000, 1, 0])
        with redis.pipeline(transaction=False) as answers:
            for number in range(5_000):  # three times what it can hold
                answers.set(f"inferway:1:{number}", ANSWER, ex=ANSWER_SECONDS)
            answers.execute()
        assert redis.info("stats")["evicted_keys"] > 3_000
        assert len(redis.keys(f"{KEYS}*")) == COUNTED
        assert len(redis.keys(f"{QUOTAS}*")) == COUNTED
