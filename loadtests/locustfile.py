"""Users of the gateway, one kind a protocol, each sending real digits and checking every answer.

`make load` runs them; README.md says what can be set.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.experimental.gevent
import numpy as np
from locust import FastHttpUser, User, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment
from numpy.typing import NDArray

from loadtests.digits import MODEL, Digits, WrongAnswer, check, png, tensor
from services.protocol.open_inference_pb2 import ModelInferRequest, ModelInferResponse

grpc.experimental.gevent.init_gevent()

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
TIMEOUT_SECONDS = 10.0
SHAPE = [1, 28, 28, 1]
HEADER_LENGTH = "Inference-Header-Content-Length"


def add_options(parser: LocustArgumentParser) -> None:
    """Options beside locust's own."""
    parser.add_argument("--grpc", default="127.0.0.1:8081", help="the gateway's gRPC address")
    parser.add_argument(
        "--distinct", action="store_true", help="no digit twice, so that no cache has an answer"
    )


events.init_command_line_parser.add_listener(add_options)  # type: ignore[no-untyped-call]


def option(environment: Environment, name: str) -> Any:
    """The value of an option, given on the command line or in locust's page."""
    return getattr(environment.parsed_options, name)


class RestUser(FastHttpUser):
    """What the REST users share: digits, and no pause between an answer and the next question."""

    abstract = True
    wait_time = constant(0)
    network_timeout = TIMEOUT_SECONDS

    def on_start(self) -> None:
        """Each user draws by its own lot."""
        self.digits = Digits(distinct=option(self.environment, "distinct"))

    def ask(
        self,
        path: str,
        probabilities: Callable[[ResponseContextManager], NDArray[np.float64]],
        **request: Any,
    ) -> None:
        """POST, and count an answer that is none as a failure."""
        with self.client.post(path, catch_response=True, **request) as response:
            if not response.status_code:
                response.failure(f"no answer: {response.error}")
                return
            if not response.ok:
                response.failure(f"HTTP {response.status_code}: {(response.text or '')[:200]}")
                return
            try:
                check(probabilities(response))
            except (WrongAnswer, ValueError, KeyError, IndexError, TypeError) as error:
                response.failure(f"{type(error).__name__}: {error}")


class OipJsonUser(RestUser):
    """The Open Inference Protocol over REST, tensors in JSON."""

    @task
    def infer(self) -> None:
        """Send one digit."""
        data = tensor(self.digits.draw()).ravel().tolist()
        body = {"inputs": [{"name": "image", "datatype": "FP32", "shape": SHAPE, "data": data}]}
        self.ask(
            f"/v2/models/{MODEL}/infer",
            lambda response: np.array(response.json()["outputs"][0]["data"]),
            json=body,
            name="OIP JSON",
        )


class OipBinaryUser(RestUser):
    """The Open Inference Protocol over REST, tensors as raw bytes both ways."""

    @task
    def infer(self) -> None:
        """Send one digit."""
        raw = tensor(self.digits.draw()).tobytes()
        image = {"name": "image", "datatype": "FP32", "shape": SHAPE}
        header = json.dumps(
            {
                "inputs": [{**image, "parameters": {"binary_data_size": len(raw)}}],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        self.ask(
            f"/v2/models/{MODEL}/infer",
            _binary_answer,
            data=header + raw,
            headers={HEADER_LENGTH: str(len(header)), "Content-Type": "application/octet-stream"},
            name="OIP binary",
        )


def _binary_answer(response: ResponseContextManager) -> NDArray[np.float64]:
    if response.headers is None or HEADER_LENGTH not in response.headers:
        raise WrongAnswer(f"no {HEADER_LENGTH}")
    length = int(str(response.headers[HEADER_LENGTH]))
    return np.frombuffer((response.content or b"")[length:], "<f4").astype(np.float64)


class TFServingUser(RestUser):
    """TF Serving's REST API, rows."""

    @task
    def predict(self) -> None:
        """Send one digit."""
        self.ask(
            f"/v1/models/{MODEL}:predict",
            lambda response: np.array(response.json()["predictions"][0]),
            json={"instances": [{"image": tensor(self.digits.draw())[0].tolist()}]},
            name="TF Serving REST",
        )


class TorchServeUser(RestUser):
    """TorchServe's REST API, a picture as a file."""

    @task
    def predictions(self) -> None:
        """Send one digit."""
        self.ask(
            f"/predictions/{MODEL}",
            lambda response: np.array(list(response.json().values())),
            data=png(self.digits.draw()),
            headers={"Content-Type": "image/png"},
            name="TorchServe REST",
        )


class OipGrpcUser(User):
    """The Open Inference Protocol over gRPC; each user has a connection of its own."""

    wait_time = constant(0)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.digits = Digits(distinct=option(environment, "distinct"))
        self.channel = grpc.insecure_channel(
            option(environment, "grpc"), options=(("grpc.use_local_subchannel_pool", 1),)
        )
        self.call = self.channel.unary_unary(
            MODEL_INFER,
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )

    def on_stop(self) -> None:
        """Close the connection."""
        self.channel.close()

    @task
    def infer(self) -> None:
        """Send one digit."""
        image = ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=SHAPE)
        request = ModelInferRequest(
            model_name=MODEL, inputs=[image], raw_input_contents=[tensor(self.digits.draw()).tobytes()]
        )
        failure: Exception | None = None
        length = 0
        began = time.perf_counter()
        try:
            reply = self.call(request, timeout=TIMEOUT_SECONDS)
            length = reply.ByteSize()
            check(np.frombuffer(reply.raw_output_contents[0], "<f4").astype(np.float64))
        except (grpc.RpcError, WrongAnswer, ValueError, IndexError) as error:
            failure = error
        self.environment.events.request.fire(
            request_type="gRPC",
            name="OIP gRPC",
            response_time=(time.perf_counter() - began) * 1000.0,
            response_length=length,
            exception=failure,
            context={},
        )
