"""Batches over the real engines: joined requests get the answers that each would get alone, and no other."""

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from tests.load import TOLERANCE, binary_request, distinct_images, drive, read_reply
from tests.serving import BUILT, ROOT, Engine, StartedGateway, running_gateway, running_triton

pytestmark = pytest.mark.engine

ENGINES = ("torchserve", "triton", "tfserving")
TEXT_MODEL = "bert_chinese"
CLS, SEP, BEYOND_THE_VOCABULARY = 101, 102, 30_000
ATTEMPT_SECONDS = 60.0
"""A busy machine takes its time, and these tests are about answers."""


def settings(engine: Engine, *models: str) -> dict[str, Any]:
    return {
        "models": [str(ROOT / "models" / model) for model in models],
        "endpoints": {"engine": engine.endpoint},
        "pools": [{"model": model, "endpoints": ["engine"]} for model in models],
        "balancing": {"attempt_timeout_seconds": ATTEMPT_SECONDS},
    }


def joined(gateway: StartedGateway) -> float:
    """How many requests were not the only one of their batch, at least."""
    requests = gateway.metric("gateway_batch_requests_sum")
    return requests - gateway.metric("gateway_batch_requests_count")


@pytest.mark.parametrize("name", ENGINES)
def test_each_of_many_joined_requests_gets_its_own_answer_and_callers_may_leave(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    engine: Engine = request.getfixturevalue(name)
    images = distinct_images(600, seed=11)
    with running_gateway(tmp_path, settings(engine, "cnn_mnist")) as gateway:
        leaving = distinct_images(10, seed=12)

        async def leave() -> None:
            for image in leaving:
                _, writer = await asyncio.open_connection(*gateway.http.split(":"))
                writer.write(binary_request(image))
                await writer.drain()
                await asyncio.sleep(0.001)
                writer.close()

        events = {100: leave, 300: leave}
        outcome = asyncio.run(drive(gateway.http, images, connections=32, events=events))
        assert outcome.failed == {}
        assert joined(gateway) > len(images) / 4
        assert gateway.metric("gateway_endpoint_in_flight_requests") == 0


@pytest.mark.parametrize("name", ENGINES)
def test_texts_are_padded_to_the_longest_and_those_the_model_cannot_take_fail_alone(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    engine: Engine = request.getfixturevalue(name)
    rng = np.random.default_rng(3)
    texts = [
        np.array([CLS, *rng.integers(1000, 8000, int(rng.integers(6, 13))), SEP], "<i8") for _ in range(24)
    ]
    bad = {5, 9, 14, 17, 20}  # one of them may be alone from the start
    for index in bad:
        texts[index][3] = BEYOND_THE_VOCABULARY
    with running_gateway(tmp_path, settings(engine, TEXT_MODEL)) as gateway:
        replies = asyncio.run(_ask_all(gateway, texts))
        assert joined(gateway) > 0
        assert gateway.metric("gateway_batch_reruns_total") > 0
    for index, (status, _) in enumerate(replies):
        assert status in ({400, 503} if index in bad else {200})
    session = onnxruntime.InferenceSession(
        BUILT / "onnx" / TEXT_MODEL / "1" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    for index, (text, (_, values)) in enumerate(zip(texts, replies, strict=True)):
        if index not in bad:
            alone = session.run(None, {"tokens": text[np.newaxis]})[0][0]
            assert np.abs(values - alone).max() <= TOLERANCE


def test_what_a_killed_engine_had_in_batches_is_answered_by_another(tmp_path: Path) -> None:
    images = distinct_images(1500, seed=13)
    with running_triton(tmp_path / "one") as one, running_triton(tmp_path / "two") as two:
        endpoints = {"one": one.endpoint, "two": two.endpoint}

        async def kill() -> None:
            os.kill(one.running.pid, signal.SIGKILL)

        with running_gateway(tmp_path / "gateway", {"endpoints": endpoints}) as gateway:
            outcome = asyncio.run(drive(gateway.http, images, connections=32, events={500: kill}))
            assert outcome.failed == {}
            assert joined(gateway) > len(images) / 4
            assert gateway.metric("gateway_retries_total", result="sent") > 0


async def _ask_all(
    gateway: StartedGateway, texts: Sequence[NDArray[np.int64]]
) -> list[tuple[int, NDArray[np.float32]]]:
    """Status and probabilities of each, asked at once, while 32 rows in one request keep the engine busy."""

    async def ask(text: NDArray[np.int64]) -> tuple[int, NDArray[np.float32]]:
        rows = np.atleast_2d(text)
        tensor = {"name": "tokens", "datatype": "INT64", "shape": rows.shape, "data": rows.ravel().tolist()}
        body = json.dumps({"inputs": [tensor]})
        reader, writer = await asyncio.open_connection(*gateway.http.split(":"))
        head = (
            f"POST /v2/models/{TEXT_MODEL}/infer HTTP/1.1\r\nhost: g\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(f"{head}{body}".encode())
        status, _, reply = await read_reply(reader)
        writer.close()
        outputs = json.loads(reply).get("outputs")
        return status, np.array(outputs[0]["data"] if outputs else [], np.float32)

    large = asyncio.create_task(ask(np.full((32, 15), 2000, "<i8")))
    await asyncio.sleep(0.02)
    replies = await asyncio.gather(*map(ask, texts))
    assert (await large)[0] == 200
    return replies
