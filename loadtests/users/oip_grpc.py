"""A user of the Open Inference Protocol over gRPC."""

import numpy as np

from loadtests.inputs.questions import Question
from loadtests.users import tally
from loadtests.users.oip_rest import tensors
from loadtests.users.unary import UnaryUser
from services.protocol.open_inference_pb2 import ModelInferRequest, ModelInferResponse


class OipGrpcUser(UnaryUser):
    """Raw contents, both ways."""

    protocol = "OIP gRPC"
    method = "/inference.GRPCInferenceService/ModelInfer"

    def encode(self, question: Question) -> ModelInferRequest:
        """Names and shapes, and the tensors' bytes."""
        return ModelInferRequest(
            model_name=question.model,
            inputs=[ModelInferRequest.InferInputTensor(**tensor) for tensor in tensors(question)],
            raw_input_contents=[value.tobytes() for value in question.inputs.values()],
        )

    def check(self, question: Question, reply: bytes) -> str | None:
        """The first output's numbers."""
        message = ModelInferResponse.FromString(reply)
        question.right.check_values(np.frombuffer(message.raw_output_contents[0], "<f4"))
        return message.parameters[tally.HEADER].string_param or None
