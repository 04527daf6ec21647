"""API keys and streams, at a real gateway: each request counts, and a stream ends with its key."""

import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest

from services.protocol import open_inference_pb2 as oip
from tests import callers
from tests.callers import OIP, over_http
from tests.integration.keys_rig import SOON, bearer, new_key, until_known
from tests.serving import EMBEDDED, StartedGateway, running_gateway


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[StartedGateway]:
    new_key(folder / "keys.yaml", "first")
    settings = {"endpoints": {"embedded": EMBEDDED}, "keys": {"file": "keys.yaml"}}
    with running_gateway(folder, settings) as started:
        yield started


def test_the_requests_of_a_stream_count_one_by_one(folder: Path, gateway: StartedGateway) -> None:
    key = new_key(folder / "keys.yaml", "streaming", "--per-day", "2")
    until_known(gateway, key)  # which counts as one
    with grpc.insecure_channel(gateway.grpc) as channel:
        call: Any = channel.stream_stream(
            f"{OIP}ModelStreamInfer", response_deserializer=oip.ModelStreamInferResponse.FromString
        )
        messages = [callers.oip_message()] * 3
        replies = list(call(iter(messages), metadata=(("x-api-key", key),), timeout=SOON))
    assert [bool(reply.error_message) for reply in replies] == [False, True, True]
    assert "quota of 2 requests a day" in replies[1].error_message


def test_a_key_that_is_ended_ends_with_the_streams_that_it_has_opened(
    folder: Path, gateway: StartedGateway
) -> None:
    file = folder / "keys.yaml"
    before, key = file.read_text(), new_key(file, "ended")
    until_known(gateway, key)
    with grpc.insecure_channel(gateway.grpc) as channel:
        call: Any = channel.stream_stream(
            f"{OIP}ModelStreamInfer", response_deserializer=oip.ModelStreamInferResponse.FromString
        )
        messages: SimpleQueue[bytes] = SimpleQueue()
        replies = call(iter(messages.get, b""), metadata=(("x-api-key", key),), timeout=2 * SOON)
        messages.put(callers.oip_message())
        assert not next(replies).error_message
        file.write_text(before)
        give_up = time.monotonic() + SOON
        while over_http(gateway.http, "GET", "/v2", headers=bearer(key)).status == 200:
            assert time.monotonic() < give_up
            time.sleep(0.1)
        messages.put(callers.oip_message())
        assert next(replies).error_message == "the API key is not valid"
        messages.put(b"")
        assert list(replies) == []
