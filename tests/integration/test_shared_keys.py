"""Two real gateways with keys and quotas in one real Redis, before and after it is stopped."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.launch import Running
from tests.callers import Answered, oip_http
from tests.serving import EMBEDDED, ROOT, StartedGateway, running_gateway, running_redis

PER_DAY = 6
SOON = 10.0


class Stack:
    """Two gateways and their Redis."""

    def __init__(self, gateways: tuple[StartedGateway, StartedGateway], redis: Running, url: str) -> None:
        self.gateways = gateways
        self.redis = redis
        self.url = url

    def new_key(self, *options: str) -> str:
        command = [sys.executable, "-m", "gateway.keys", "new", "team", "--redis", self.url, *options]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with ExitStack() as exits:
        redis, port = exits.enter_context(running_redis(tmp_path / "redis"))
        url = f"redis://127.0.0.1:{port}/0"
        section = {"redis": {"url": url, "timeout_seconds": 2.0}}
        settings = {"endpoints": {"embedded": EMBEDDED}, "keys": section, "quotas": section}
        one = exits.enter_context(running_gateway(tmp_path / "one", settings))
        two = exits.enter_context(running_gateway(tmp_path / "two", settings))
        yield Stack((one, two), redis, url)


def ask(gateway: StartedGateway, key: str) -> Answered:
    return oip_http(gateway, {"X-API-Key": key})


def test_two_gateways_share_keys_and_a_quota_and_a_lost_redis_stops_no_known_key(stack: Stack) -> None:
    limited, free, unseen = stack.new_key("--per-day", str(PER_DAY)), stack.new_key(), stack.new_key()
    one, two = stack.gateways
    statuses = [ask(gateway, limited).status for _ in range(PER_DAY) for gateway in (one, two)]
    assert statuses.count(200) == PER_DAY
    assert set(statuses[PER_DAY + 1 :]) == {429}
    for gateway in (one, two):
        assert ask(gateway, free).status == 200
        assert gateway.metric("gateway_quota_redis_up_ratio") == 1
    stack.redis.stop()
    give_up = time.monotonic() + SOON
    while any(gateway.metric("gateway_quota_redis_up_ratio") for gateway in (one, two)):
        assert time.monotonic() < give_up
        time.sleep(0.1)
    for gateway in (one, two):
        assert gateway.metric("gateway_keys_redis_up_ratio") == 0
        assert ask(gateway, free).status == 200  # known from before
        assert ask(gateway, unseen).status == 401  # fails closed
