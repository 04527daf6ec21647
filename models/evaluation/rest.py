"""One variant of a model as a client sees it: over the gateway's REST, with binary tensors."""

import http.client
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.evaluation.answers import Inputs
from models.evaluation.subject import EvaluationError, Subject

HEADER_LENGTH = "Inference-Header-Content-Length"
PATIENCE_SECONDS = 120.0
"""Of a request: what is measured here is answers, and not their latency."""


class Rest:
    """Asks a gateway for one variant; an `Answer`, and a context manager that closes its connection.

    Args:
        address: host:port.
        model: the model's name, version and outputs.
        variant: which one.
        engine: which backend the reply must name.
    """

    def __init__(self, address: str, model: Subject, variant: str, engine: str) -> None:
        self._model = model
        self._wanted = (variant, engine)
        self._connection = http.client.HTTPConnection(address, timeout=PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def __call__(self, inputs: Inputs) -> NDArray[np.float32]:
        """The first output for a batch.

        Raises:
            EvaluationError: the gateway refused, or another variant or engine answered.
        """
        header, body = request(self._model.contract, inputs, self._wanted[0])
        path = f"/v2/models/{self._model.name}/versions/{self._model.version}/infer"
        self._connection.request("POST", path, header + body, {HEADER_LENGTH: str(len(header))})
        reply = self._connection.getresponse()
        content = reply.read()
        if reply.status != http.client.OK:
            raise EvaluationError(f"the gateway answered {reply.status}: {content.decode(errors='replace')}")
        answered = (reply.headers["x-inferway-variant"], reply.headers["x-inferway-backend"])
        if answered != self._wanted:
            raise EvaluationError(f"{' of '.join(answered)} answered in place of {' of '.join(self._wanted)}")
        length = int(reply.headers[HEADER_LENGTH])
        shape = json.loads(content[:length])["outputs"][0]["shape"]
        return np.frombuffer(content[length:], "<f4").reshape(shape)


def request(contract: Mapping[str, Any], inputs: Inputs, variant: str) -> tuple[bytes, bytes]:
    """Header and tensors of an inference request by OIP's binary extension."""
    datatypes = {spec["name"]: spec["datatype"] for spec in contract["inputs"]}
    tensors = [
        {
            "name": name,
            "datatype": datatypes[name],
            "shape": value.shape,
            "parameters": {"binary_data_size": value.nbytes},
        }
        for name, value in inputs.items()
    ]
    header = {
        "parameters": {"variant": variant, "timeout": int(PATIENCE_SECONDS * 1e6)},
        "inputs": tensors,
        "outputs": [{"name": contract["outputs"][0]["name"], "parameters": {"binary_data": True}}],
    }
    return json.dumps(header).encode(), b"".join(value.tobytes() for value in inputs.values())
