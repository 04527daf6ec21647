"""Users of the Open Inference Protocol over REST."""

import math
from typing import Any

import numpy as np
import orjson
from locust.contrib.fasthttp import ResponseContextManager

from loadtests.inputs.questions import Question, WrongAnswer
from loadtests.users.rest import Post, RestUser

HEADER_LENGTH = "Inference-Header-Content-Length"
DATATYPES = {"float32": "FP32", "int64": "INT64"}
"""By numpy's names."""


class OipJsonUser(RestUser):
    """Tensors in JSON."""

    protocol = "OIP JSON"

    def encode(self, question: Question) -> Post:
        """Each tensor's numbers in one flat list."""
        inputs = [tensor | {"data": question.inputs[tensor["name"]].ravel()} for tensor in tensors(question)]
        return Post(_path(question), orjson.dumps({"inputs": inputs}, option=orjson.OPT_SERIALIZE_NUMPY))

    def check(self, question: Question, response: ResponseContextManager) -> None:
        """The first output's numbers."""
        output = orjson.loads(response.content or b"")["outputs"][0]
        _check_shape(output, question)
        question.right.check_values(output["data"])


class OipBinaryUser(RestUser):
    """Tensors as raw bytes, both ways."""

    protocol = "OIP binary"

    def encode(self, question: Question) -> Post:
        """Names and shapes in JSON, then the tensors."""
        raw = [value.tobytes() for value in question.inputs.values()]
        inputs = [
            tensor | {"parameters": {"binary_data_size": len(data)}}
            for tensor, data in zip(tensors(question), raw, strict=True)
        ]
        header = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
        headers = {HEADER_LENGTH: str(len(header)), "Content-Type": "application/octet-stream"}
        return Post(_path(question), header + b"".join(raw), headers)

    def check(self, question: Question, response: ResponseContextManager) -> None:
        """The first output's numbers."""
        length = int(str(response.headers[HEADER_LENGTH])) if response.headers else 0
        content = response.content or b""
        _check_shape(orjson.loads(content[:length])["outputs"][0], question)
        question.right.check_values(np.frombuffer(content[length:], "<f4"))


def tensors(question: Question) -> list[dict[str, Any]]:
    """Name, datatype and shape of each input tensor, as the protocol has them in JSON and gRPC alike."""
    return [
        {"name": name, "datatype": DATATYPES[value.dtype.name], "shape": value.shape}
        for name, value in question.inputs.items()
    ]


def _path(question: Question) -> str:
    return f"/v2/models/{question.model}/infer"


def _check_shape(output: dict[str, Any], question: Question) -> None:
    shape = output["shape"]
    if shape[0] != 1 or math.prod(shape) != question.right.size:
        raise WrongAnswer(f"a shape of {shape} for {question.right.size} numbers of one question")
