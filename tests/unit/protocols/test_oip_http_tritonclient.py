"""OIP REST as Triton's own client sees it, over a socket; the engines' side of it is in tests/contract."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton
import uvicorn
from starlette.applications import Starlette
from tritonclient.utils import InferenceServerException

from gateway.protocols.oip_http import routes
from services.launch import free_port
from tests.unit.protocols.oip_http_rig import Rig


@pytest.fixture(scope="module")
def client() -> Iterator[triton.InferenceServerClient]:
    port = free_port()
    config = uvicorn.Config(
        Starlette(routes=routes(Rig().edge)), port=port, log_level="error", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        yield client
    server.should_exit = True
    thread.join()


def image(*, binary: bool) -> list[triton.InferInput]:
    tensor = triton.InferInput("image", [2, 2, 2], "FP32")
    tensor.set_data_from_numpy(np.ones((2, 2, 2), np.float32), binary_data=binary)
    return [tensor]


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_infer(
    client: triton.InferenceServerClient, *, binary_input: bool, binary_output: bool, compression: str | None
) -> None:
    result = client.infer(
        "digits",
        image(binary=binary_input),
        outputs=[triton.InferRequestedOutput("scores", binary_data=binary_output)],
        request_id="7",
        timeout=5_000_000,
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    assert np.array_equal(result.as_numpy("scores"), np.array([[0.25, 3.5, 1.0]] * 2, np.float32))
    assert result.get_response()["id"] == "7"


def test_infer_without_outputs_gives_all(client: triton.InferenceServerClient) -> None:
    result = client.infer("digits", image(binary=True))
    assert result.as_numpy("sum").shape == (2, 1)


@pytest.mark.parametrize("binary", [True, False])
def test_classification(client: triton.InferenceServerClient, *, binary: bool) -> None:
    wanted = triton.InferRequestedOutput("scores", binary_data=binary, class_count=1)
    best = client.infer("digits", image(binary=True), outputs=[wanted]).as_numpy("scores")
    assert [str(item.decode() if binary else item) for item in best.ravel()] == ["3.500000:1:one"] * 2


def test_facts(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("nope")
    assert client.get_server_metadata()["name"] == "inferway"
    assert client.get_model_metadata("digits")["versions"] == ["1"]
    assert client.get_model_config("digits")["max_batch_size"] == 8
    assert client.get_model_repository_index()[0]["state"] == "READY"
    [stats] = client.get_inference_statistics("digits")["model_stats"]
    assert stats["version"] == "1"


def test_errors_carry_status_and_text(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="model 'nope' is not found") as caught:
        client.infer("nope", image(binary=True))
    assert caught.value.status() == "404"
    with pytest.raises(InferenceServerException, match="no shared memory") as caught:
        client.get_system_shared_memory_status()
    assert caught.value.status() == "501"
    with pytest.raises(InferenceServerException, match="no shared memory"):
        client.load_model("digits")
