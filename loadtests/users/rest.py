"""What the users of the REST protocols share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from locust import FastHttpUser, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment

from loadtests.inputs.questions import Question, WrongAnswer
from loadtests.users import tally
from loadtests.users.options import TIMEOUT_SECONDS, plan


@dataclass(frozen=True, slots=True)
class Post:
    """A request."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class RestUser(FastHttpUser):
    """Sends a question by POST.

    Attributes:
        protocol: its name in the report.
    """

    abstract = True
    protocol: ClassVar[str]
    network_timeout = TIMEOUT_SECONDS
    connection_timeout = TIMEOUT_SECONDS

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.asking, self.pace = plan(environment)

    def wait_time(self) -> float:
        """Seconds until the next question."""
        return self.pace.wait_seconds()

    def encode(self, question: Question) -> Post:
        """The request of a question."""
        raise NotImplementedError

    def check(self, question: Question, response: ResponseContextManager) -> None:
        """See that an answer is right.

        Raises:
            WrongAnswer: it is not; a ValueError, LookupError or TypeError says so, too.
        """
        raise NotImplementedError

    @task
    def infer(self) -> None:
        """Send the next question; an answer that is wrong counts as a failure."""
        question = self.asking.next()
        post = self.encode(question)
        with self.client.post(
            post.path,
            data=post.body,  # type: ignore[arg-type] # bytes are what it sends
            headers={**post.headers},
            name=f"{self.protocol} {question.model}",
            catch_response=True,
        ) as response:
            if not response.status_code:
                response.failure(f"no answer: {response.error}")
                return
            if not response.ok:
                response.failure(f"HTTP {response.status_code}: {(response.text or '')[:200]}")
                return
            tally.answers[(response.headers or {}).get(tally.HEADER, "unknown")] += 1
            try:
                self.check(question, response)
            except (WrongAnswer, ValueError, LookupError, TypeError) as error:
                response.failure(f"{type(error).__name__}: {error}")
