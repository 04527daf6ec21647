"""Faults that are not a clean death: an engine that hangs, Redis that goes and comes back, nobody left."""

import asyncio
import json
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gateway.traffic_settings import BalancingSettings
from tests.load import distinct_images, drive
from tests.redis_cluster import running_redis_cluster
from tests.serving import EMBEDDED, Engine, StartedGateway, running_gateway, running_redis, running_triton

pytestmark = [pytest.mark.engine]

GIVE_UP_SECONDS = 20.0
SLOW_REDIS = 5.0
"""Seconds: a busy machine is not a lost Redis."""
ATTEMPT_TIMEOUT_SECONDS = BalancingSettings().attempt_timeout_seconds


def _wait_until(gateway: StartedGateway, metric: str, value: float) -> None:
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while gateway.metric(metric) != value:
        assert time.monotonic() < give_up, f"{metric} did not become {value}"
        time.sleep(0.1)


def test_engine_that_hangs_costs_no_request_and_none_its_deadline(tfserving: Engine, tmp_path: Path) -> None:
    images = distinct_images(1500)
    with running_triton(tmp_path / "triton") as triton:

        async def hang() -> None:
            os.killpg(triton.running.pid, signal.SIGSTOP)

        settings = {"endpoints": {"triton": triton.endpoint, "tfserving": tfserving.endpoint}}
        with running_gateway(tmp_path / "gateway", settings) as gateway:
            outcome = asyncio.run(drive(gateway.http, images, connections=16, events={400: hang}))
            os.killpg(triton.running.pid, signal.SIGCONT)
            given_up = sum(
                gateway.metric("gateway_attempt_duration_seconds_count", backend="triton", outcome=outcome)
                for outcome in ("AttemptTimedOut", "abandoned")  # the latter where a hedge came first
            )
    assert outcome.failed == {}
    assert max(outcome.seconds) < 10.0
    assert given_up > 0


def test_redis_is_shared_and_its_death_costs_no_answer(tmp_path: Path) -> None:
    images = distinct_images(200)
    embedded = {"embedded": EMBEDDED}
    with running_redis(tmp_path / "redis") as (first, port):
        url = f"redis://127.0.0.1:{port}/0"
        settings = {"endpoints": embedded, "cache": {"redis": {"url": url, "timeout_seconds": SLOW_REDIS}}}
        with running_gateway(tmp_path / "one", settings) as gateway:
            asyncio.run(drive(gateway.http, images[:100], connections=4))
            assert gateway.metric("gateway_cache_lookups_total", tier="redis", result="miss") == 100
        with running_gateway(tmp_path / "two", settings) as gateway:
            outcome = asyncio.run(drive(gateway.http, images[:100], connections=4))
            assert outcome.failed == {}
            assert gateway.metric("gateway_cache_lookups_total", tier="redis", result="hit") == 100
            assert gateway.metric("gateway_attempt_duration_seconds_count") == 0
            first.kill()
            outcome = asyncio.run(drive(gateway.http, images[100:], connections=4))
            assert outcome.failed == {}
            _wait_until(gateway, "gateway_cache_redis_up_ratio", 0)
            with running_redis(tmp_path / "redis", port):
                _wait_until(gateway, "gateway_cache_redis_up_ratio", 1)


def test_a_redis_cluster_that_loses_a_master_costs_no_answer(tmp_path: Path) -> None:
    images = distinct_images(200)
    with running_redis_cluster(tmp_path / "cluster") as cluster:
        redis = {"url": cluster.url, "cluster": True, "timeout_seconds": SLOW_REDIS}
        settings = {"endpoints": {"embedded": EMBEDDED}, "cache": {"memory_bytes": 0, "redis": redis}}
        with running_gateway(tmp_path / "gateway", settings) as gateway:
            for _ in range(2):
                assert asyncio.run(drive(gateway.http, images[:100], connections=4)).failed == {}
            assert gateway.metric("gateway_cache_lookups_total", tier="redis", result="hit") == 100
            assert gateway.metric("gateway_cache_saved_seconds_total", tier="redis") > 0
            cluster.masters[0].kill()  # the one that the URL leads to
            assert asyncio.run(drive(gateway.http, images, connections=4)).failed == {}
            assert 100 < gateway.metric("gateway_cache_lookups_total", tier="redis", result="hit") < 200
            _wait_until(gateway, "gateway_cache_redis_up_ratio", 2 / 3)


def test_no_endpoint_left_is_503_with_retry_after(tmp_path: Path) -> None:
    with running_triton(tmp_path / "triton") as triton:
        settings = {"endpoints": {"triton": triton.endpoint}}
        with running_gateway(tmp_path / "gateway", settings) as gateway:
            triton.running.kill()
            instances = {"instances": distinct_images(1).tolist()}
            request = urllib.request.Request(
                f"http://{gateway.http}/v1/models/cnn_mnist:predict", json.dumps(instances).encode()
            )
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=10)  # noqa: S310
            with caught.value as refused:
                assert refused.code == 503
                assert int(refused.headers["retry-after"]) >= 1
                assert "cnn_mnist" in json.loads(refused.read())["error"]
            _wait_until(gateway, "gateway_endpoint_available_ratio", 0)
            sent = gateway.metric("gateway_attempt_duration_seconds_count")
            started = time.monotonic()
            with pytest.raises(urllib.error.HTTPError) as quickly:
                urllib.request.urlopen(request, timeout=10)  # noqa: S310
            with quickly.value as refused:
                assert refused.code == 503
                assert int(refused.headers["retry-after"]) >= 1
            assert time.monotonic() - started < ATTEMPT_TIMEOUT_SECONDS
            assert gateway.metric("gateway_attempt_duration_seconds_count") == sent
            with pytest.raises(urllib.error.HTTPError) as not_ready:
                urllib.request.urlopen(f"http://{gateway.http}/v2/health/ready", timeout=5)
            not_ready.value.close()
