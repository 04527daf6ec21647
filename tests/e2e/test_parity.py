"""One set of weights, three engines: measured over gRPC through each real engine, by way of the gateway."""

from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from services.protocol import open_inference_pb2 as oip
from tests.serving import MODEL, Engine, heldout, running_gateway

LARGEST_DIFFERENCE = 1e-4
ACCURACY_FLOOR = 0.98
BATCH = 50

pytestmark = pytest.mark.engine


def _probabilities(address: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = []
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelInferResponse.FromString,
        )
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=batch.shape)
            reply = infer(
                oip.ModelInferRequest(model_name=MODEL, inputs=[tensor], raw_input_contents=[batch.tobytes()])
            )
            rows.append(np.frombuffer(reply.raw_output_contents[0], "<f4").reshape(-1, 10))
    return np.concatenate(rows)


def test_engines_agree_to_1e_4_and_each_reaches_the_floor(
    torchserve: Engine, triton: Engine, tfserving: Engine, tmp_path: Path
) -> None:
    images, labels = heldout()
    engines = {
        "torchserve": torchserve.endpoint,
        "triton": triton.endpoint,
        "tfserving": tfserving.endpoint,
        "embedded": {"backend": "onnxruntime"},
    }
    answers = {}
    for name, endpoint in engines.items():
        with running_gateway(tmp_path / name, {"endpoints": {name: endpoint}}) as gateway:
            answers[name] = _probabilities(gateway.grpc, images)
    for name, rows in answers.items():
        accuracy = float((rows.argmax(axis=1) == labels).mean())
        assert accuracy >= ACCURACY_FLOOR, f"{name}: {accuracy}"
    largest = {
        (a, b): float(np.abs(answers[a] - answers[b]).max()) for a in answers for b in answers if a < b
    }
    assert max(largest.values()) <= LARGEST_DIFFERENCE, largest
