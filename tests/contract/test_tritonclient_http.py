"""Triton's own HTTP client gets the same from the gateway as from the real Triton."""

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from services.launch import free_port
from tests.serving import MODEL, StartedGateway, heldout, running_triton


@pytest.fixture(scope="module")
def triton_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with running_triton(tmp_path_factory.mktemp("triton"), http_port=port):
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module", params=["gateway", pytest.param("triton", marks=pytest.mark.engine)])
def client(request: pytest.FixtureRequest) -> Iterator[triton.InferenceServerClient]:
    if request.param == "gateway":
        gateway: StartedGateway = request.getfixturevalue("embedded_gateway")
        address = gateway.http
    else:
        address = request.getfixturevalue("triton_address")
    with triton.InferenceServerClient(address) as client:
        yield client


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return heldout()[0][:5]


def image_input(pixels: NDArray[np.float32], *, binary: bool = True) -> list[triton.InferInput]:
    tensor = triton.InferInput("image", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels, binary_data=binary)
    return [tensor]


@pytest.fixture(scope="module")
def expected(client: triton.InferenceServerClient, images: NDArray[np.float32]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = client.infer(MODEL, image_input(images)).as_numpy("probabilities")
    assert values.shape == (5, 10)
    assert np.allclose(values.sum(axis=1), 1, atol=1e-5)
    return values


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("version", ["", "1"])
def test_every_encoding_gives_the_same_answer(
    client: triton.InferenceServerClient,
    images: NDArray[np.float32],
    expected: NDArray[np.float32],
    *,
    binary_input: bool,
    binary_output: bool,
    compression: str | None,
    version: str,
) -> None:
    result = client.infer(
        MODEL,
        image_input(images, binary=binary_input),
        model_version=version,
        outputs=[triton.InferRequestedOutput("probabilities", binary_data=binary_output)],
        request_id="a-7",
        timeout=5_000_000,
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    assert np.allclose(result.as_numpy("probabilities"), expected, atol=1e-6)
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("a-7", MODEL, "1")


def test_asynchronous_calls_are_answered(
    client: triton.InferenceServerClient, images: NDArray[np.float32], expected: NDArray[np.float32]
) -> None:
    pending = [client.async_infer(MODEL, image_input(images[i : i + 1])) for i in range(5)]
    answers = [each.get_result().as_numpy("probabilities")[0] for each in pending]
    assert np.allclose(answers, expected, atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_classification_gives_value_and_place(
    client: triton.InferenceServerClient,
    images: NDArray[np.float32],
    expected: NDArray[np.float32],
    *,
    binary: bool,
) -> None:
    wanted = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)
    best = client.infer(MODEL, image_input(images), outputs=[wanted]).as_numpy("probabilities")
    assert best.shape == (5, 3)
    for row, values in zip(best, expected, strict=True):
        texts = [item.decode() if binary else str(item) for item in row]
        places = [int(text.split(":")[1]) for text in texts]
        assert places == np.argsort(-values)[:3].tolist()
        assert float(texts[0].split(":")[0]) == pytest.approx(values.max(), abs=2e-6)


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready(MODEL, "9")
    assert not client.is_model_ready("nope")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata(MODEL)
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 28, 28, 1]}]
    assert metadata["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]


def test_configuration_and_index(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config(MODEL, "1")
    assert (config["name"], config["max_batch_size"]) == (MODEL, 64)
    assert (config["input"][0]["data_type"], config["input"][0]["dims"]) == ("TYPE_FP32", [28, 28, 1])
    assert (config["output"][0]["data_type"], config["output"][0]["dims"]) == ("TYPE_FP32", [10])
    entries = [entry for entry in client.get_model_repository_index() if entry["name"] == MODEL]
    assert [(entry["version"], entry["state"]) for entry in entries] == [("1", "READY")]


def test_statistics_count_what_was_asked(
    client: triton.InferenceServerClient, images: NDArray[np.float32]
) -> None:
    def success() -> dict[str, int]:
        [stats] = client.get_inference_statistics(MODEL)["model_stats"]
        assert stats["version"] == "1"
        counted: dict[str, int] = stats["inference_stats"]["success"]
        return counted

    before = success()
    for _ in range(3):
        client.infer(MODEL, image_input(images))
    after = success()
    assert after["count"] - before["count"] == 3
    assert after["ns"] > before["ns"]


def test_unknown_model_and_version_are_404(
    client: triton.InferenceServerClient, images: NDArray[np.float32]
) -> None:
    for model, version in (("nope", ""), (MODEL, "9")):
        with pytest.raises(InferenceServerException, match=r"not found|has no version") as caught:
            client.infer(model, image_input(images), model_version=version)
        assert caught.value.status() == "404"


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 27, 28, 1), (65, 28, 28, 1)])
def test_wrong_shape_is_400_that_names_the_input(
    client: triton.InferenceServerClient, shape: tuple[int, ...]
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(MODEL, image_input(np.zeros(shape, np.float32)))
    assert caught.value.status() == "400"


def test_wrong_names_and_datatype_are_400(
    client: triton.InferenceServerClient, images: NDArray[np.float32]
) -> None:
    other = triton.InferInput("picture", [5, 28, 28, 1], "FP32")
    other.set_data_from_numpy(images)
    double = triton.InferInput("image", [5, 28, 28, 1], "FP64")
    double.set_data_from_numpy(images.astype(np.float64))
    for inputs, outputs, word in (
        ([other], None, "picture"),
        ([double], None, "image"),
        (image_input(images), [triton.InferRequestedOutput("logits")], "logits"),
    ):
        with pytest.raises(InferenceServerException, match=word) as caught:
            client.infer(MODEL, inputs, outputs=outputs)
        assert caught.value.status() == "400"
