"""A user of TF Serving's REST API."""

import orjson
from locust.contrib.fasthttp import ResponseContextManager

from loadtests.inputs.questions import Question
from loadtests.users.rest import Post, RestUser


class TFServingUser(RestUser):
    """Rows: one instance, its inputs by name."""

    protocol = "TF Serving REST"

    def encode(self, question: Question) -> Post:
        """Each tensor's numbers in nested lists."""
        instance = {name: value[0] for name, value in question.inputs.items()}
        body = orjson.dumps({"instances": [instance]}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Post(f"/v1/models/{question.model}:predict", body)

    def check(self, question: Question, response: ResponseContextManager) -> None:
        """The only prediction."""
        (prediction,) = orjson.loads(response.content or b"")["predictions"]
        question.right.check_values(prediction)
