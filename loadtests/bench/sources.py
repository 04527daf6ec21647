"""What is asked: digits, no two alike, as each system takes them; and how its answer is read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from services.protocol import open_inference_pb2 as oip
from tests.load import binary_request
from tests.serving import MODEL

Image = NDArray[np.float32]
"""FP32 [28, 28, 1]."""
Answer = NDArray[np.float32]
"""FP32 [10]."""
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
JSON, BINARY, GRPC = "JSON", "binary", "gRPC"


@dataclass(frozen=True, slots=True)
class Encoding:
    """One way to ask over HTTP.

    Attributes:
        request: a whole HTTP request from an image.
        answer: the probabilities, from the reply's headers (names in lower case) and body.
        headers: of each request, beside its own.
    """

    request: Callable[[Image, Mapping[str, str]], bytes]
    answer: Callable[[Mapping[str, str], bytes], Answer]
    headers: Mapping[str, str] = field(default_factory=dict)

    def requests(self, images: Sequence[Image] | Image) -> list[bytes]:
        """One for each image."""
        return [self.request(image, self.headers) for image in images]


def post(path: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """A whole HTTP request."""
    lines = [f"POST {path} HTTP/1.1", "host: bench", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _oip_json_request(image: Image, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": image.ravel().tolist()}
    body = orjson.dumps({"inputs": [tensor]})
    return post(f"/v2/models/{MODEL}/infer", body, {"content-type": "application/json", **headers})


def _oip_json_answer(_: Mapping[str, str], body: bytes) -> Answer:
    return np.array(orjson.loads(body)["outputs"][0]["data"], np.float32)


def _oip_binary_answer(headers: Mapping[str, str], body: bytes) -> Answer:
    return np.frombuffer(body[int(headers["inference-header-content-length"]) :], "<f4")


OIP_JSON = Encoding(_oip_json_request, _oip_json_answer)
OIP_BINARY = Encoding(binary_request, _oip_binary_answer)


def plain_json(
    path: str, wrap: Callable[[list[float]], Any], unwrap: Callable[[Any], list[float]]
) -> Encoding:
    """JSON of a server that has no protocol of its own: what `wrap` makes of the image's 784 numbers."""
    headers = {"content-type": "application/json"}
    return Encoding(
        lambda image, more: post(path, orjson.dumps(wrap(image.ravel().tolist())), {**headers, **more}),
        lambda _, body: np.array(unwrap(orjson.loads(body)), np.float32),
    )


def plain_bytes(path: str) -> Encoding:
    """Raw FP32 bytes both ways."""
    return Encoding(
        lambda image, more: post(path, image.tobytes(), {"content-type": "application/octet-stream", **more}),
        lambda _, body: np.frombuffer(body, "<f4"),
    )


def grpc_message(image: Image) -> bytes:
    """One image as a serialised ModelInferRequest."""
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=[1, 28, 28, 1])
    message = oip.ModelInferRequest(model_name=MODEL, inputs=[tensor], raw_input_contents=[image.tobytes()])
    return message.SerializeToString()
