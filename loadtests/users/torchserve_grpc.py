"""A user of TorchServe's gRPC API."""

import orjson

from loadtests.inputs.questions import Question
from loadtests.users.unary import UnaryUser
from services.protocol.torchserve_pb2 import PredictionResponse, PredictionsRequest


class TorchServeGrpcUser(UnaryUser):
    """Sends a file: the gateway makes the tensors of it."""

    protocol = "TorchServe gRPC"
    method = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"

    def encode(self, question: Question) -> PredictionsRequest:
        """The file as it is."""
        return PredictionsRequest(model_name=question.model, input={"data": question.payload})

    def check(self, question: Question, reply: bytes) -> None:
        """Numbers by label, in JSON."""
        question.right.check_named(orjson.loads(PredictionResponse.FromString(reply).prediction))
