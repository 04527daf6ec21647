"""A reload under load: no request fails, over REST and gRPC, and every answer is right."""

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chaos.steady import Steady
from tests.serving import MODEL, ROOT, StartedGateway, running_gateway, running_triton

pytestmark = [pytest.mark.engine]

RATE = 150.0
LONGEST_SECONDS = 60.0
SERVED_SECONDS = 0.5
"""For so long each configuration answers before the next."""
RESULTS = ("ok", "invalid", "restart", "not_ready", "failed")


async def reload(gateway: StartedGateway, path: Path, content: Any) -> str:
    """What came of a reload of this configuration."""

    def counts() -> dict[str, float]:
        return {result: gateway.metric("gateway_reloads_total", result=result) for result in RESULTS}

    before = await asyncio.to_thread(counts)
    await asyncio.to_thread(path.write_text, yaml.safe_dump(content))
    os.kill(gateway.running.pid, signal.SIGHUP)
    while (now := await asyncio.to_thread(counts)) == before:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.05)
    return next(result for result in RESULTS if now[result] > before[result])


async def test_reloads_under_load_cost_no_request(tmp_path: Path) -> None:
    model = tmp_path / "models" / MODEL
    shutil.copytree(ROOT / "models" / MODEL, model)
    contract = yaml.safe_load((model / "model.yaml").read_text())
    (model / "model.yaml").write_text(yaml.safe_dump({**contract, "cache": {"enabled": False}}))
    with running_triton(tmp_path / "one") as one, running_triton(tmp_path / "two") as two:
        settings = {
            "models": [str(model)],
            "endpoints": {"one": one.endpoint, "two": two.endpoint},
            "reload": {"watch": False},
        }
        with running_gateway(tmp_path / "gateway", settings) as gateway:
            path = tmp_path / "gateway" / "inferway.yaml"
            first = yaml.safe_load(path.read_text())
            configurations = [
                (first, "ok"),
                ({**first, "balancing": {"consecutive_failures": 4}}, "ok"),
                ({**first, "pools": [{"model": MODEL, "endpoints": ["one"]}]}, "ok"),
                ({**first, "pools": "nothing"}, "invalid"),
                ({**first, "cache": {"memory_bytes": 0}}, "restart"),
                (first, "ok"),
            ]
            load = Steady(gateway.http, gateway.grpc, RATE, LONGEST_SECONDS)
            load.start(8)
            try:
                results = []
                for content, _ in configurations:
                    await asyncio.sleep(SERVED_SECONDS)
                    results.append(await reload(gateway, path, content))
            finally:
                samples = await load.stop()
    assert results == [result for _, result in configurations]
    assert [sample for sample in samples if sample.failed] == []
    assert len(samples) > RATE
