"""The real TorchServe answers and the real Triton is its shadow: where they agree, and where they do not."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.load import distinct_images, drive
from tests.serving import MODEL, Engine, StartedGateway, running_gateway, running_triton

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

REQUESTS = 200
COMPARED_SECONDS = 60.0


def settings(torchserve: Engine, triton: Engine, **to: Any) -> dict[str, Any]:
    """TorchServe alone is in the pool that answers; Triton is asked too, every time."""
    shadow = {
        "model": MODEL,
        "to": {"endpoints": ["triton"], **to},
        "ratio": 1.0,
        "timeout_seconds": 30.0,
        "max_queued": 1000,
    }
    pools = [{"model": MODEL, "variant": "fp32", "endpoints": ["torchserve"]}]
    endpoints = {"torchserve": torchserve.endpoint, "triton": triton.endpoint}
    return {"endpoints": endpoints, "pools": pools, "shadows": [shadow]}


async def _drive_and_wait(gateway: StartedGateway) -> None:
    images = distinct_images(REQUESTS)
    outcome = await drive(gateway.http, images, connections=8)
    assert outcome.failed == {}
    assert outcome.backends == {"torchserve": REQUESTS}
    async with asyncio.timeout(COMPARED_SECONDS):
        while gateway.metric("gateway_shadow_requests_total") < REQUESTS:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)


def test_triton_gives_the_answers_of_torchserve_and_clients_are_answered_by_torchserve_alone(
    torchserve: Engine, triton: Engine, tmp_path: Path
) -> None:
    with running_gateway(tmp_path, settings(torchserve, triton)) as gateway:
        asyncio.run(_drive_and_wait(gateway))
        target = "1-fp32@triton"
        assert gateway.metric("gateway_shadow_requests_total", outcome="equal", target=target) == REQUESTS
        assert gateway.metric("gateway_shadow_label_agreement_total", result="same") == REQUESTS
        assert gateway.metric("gateway_shadow_label_agreement_total", result="other") == 0
        assert gateway.metric("gateway_shadow_largest_difference_sum") / REQUESTS < 1e-4
        assert gateway.metric("gateway_attempt_duration_seconds_count", backend="triton") == 0


def test_another_variant_is_seen_to_differ(torchserve: Engine, triton: Engine, tmp_path: Path) -> None:
    with running_gateway(tmp_path, settings(torchserve, triton, variant="int8")) as gateway:
        asyncio.run(_drive_and_wait(gateway))
        different = gateway.metric("gateway_shadow_requests_total", outcome="different")
        assert different > 0
        assert gateway.metric("gateway_shadow_largest_difference_sum") / REQUESTS > 1e-4


def test_a_shadow_that_dies_costs_no_client_anything(torchserve: Engine, tmp_path: Path) -> None:
    with (
        running_triton(tmp_path / "triton") as triton,
        running_gateway(tmp_path / "gateway", settings(torchserve, triton)) as gateway,
    ):

        async def kill() -> None:
            triton.running.kill()

        outcome = asyncio.run(
            drive(gateway.http, distinct_images(REQUESTS), connections=8, events={REQUESTS // 2: kill})
        )
        assert outcome.failed == {}
        assert outcome.backends == {"torchserve": REQUESTS}
        assert gateway.metric("gateway_endpoint_ejections_total") == 0
        assert gateway.metric("gateway_retries_total") == 0
        assert gateway.metric("gateway_shadow_requests_total", outcome="equal") > 0
        assert gateway.metric("gateway_shadow_requests_total", outcome="different") == 0
