"""A user of TorchServe's REST API."""

import orjson
from locust.contrib.fasthttp import ResponseContextManager

from loadtests.inputs.questions import Question
from loadtests.users.rest import Post, RestUser


class TorchServeUser(RestUser):
    """Sends a file, as `curl -T` does: the gateway makes the tensors of it."""

    protocol = "TorchServe REST"

    def encode(self, question: Question) -> Post:
        """The file as it is."""
        headers = {"Content-Type": "application/octet-stream"}
        return Post(f"/predictions/{question.model}", question.payload, headers)

    def check(self, question: Question, response: ResponseContextManager) -> None:
        """Numbers by label."""
        question.right.check_named(orjson.loads(response.content or b""))
