"""What the users of the gRPC protocols share."""

import time
from abc import abstractmethod
from typing import Any, ClassVar

import grpc
import grpc.experimental.gevent
from google.protobuf.message import DecodeError, Message
from locust import User, task
from locust.env import Environment

from loadtests.inputs.questions import Question, WrongAnswer
from loadtests.users import tally
from loadtests.users.options import TIMEOUT_SECONDS, plan

grpc.experimental.gevent.init_gevent()  # a call that waits must not hold up the other users
CHANNEL = (
    ("grpc.use_local_subchannel_pool", 1),  # else users share one connection
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)


class UnaryUser(User):
    """Sends a question in a unary call; each user has a connection of its own.

    Attributes:
        protocol: its name in the report.
        method: the call, by its path.
    """

    abstract = True
    protocol: ClassVar[str]
    method: ClassVar[str]

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        options: Any = environment.parsed_options
        self.asking, self.pace = plan(environment)
        self.channel = grpc.insecure_channel(options.grpc, options=CHANNEL)
        self.call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(self.method)

    def wait_time(self) -> float:
        """Seconds until the next question."""
        return self.pace.wait_seconds()

    def on_stop(self) -> None:
        """Close the connection."""
        self.channel.close()

    @abstractmethod
    def encode(self, question: Question) -> Message:
        """The request of a question."""

    @abstractmethod
    def check(self, question: Question, reply: bytes) -> str | None:
        """See that an answer is right; which cache it names itself, if the protocol has it in the reply.

        Raises:
            WrongAnswer: it is not; a ValueError, LookupError, TypeError or DecodeError says so, too.
        """

    @task
    def infer(self) -> None:
        """Send the next question; an answer that is wrong counts as a failure."""
        question = self.asking.next()
        request = self.encode(question).SerializeToString()
        failure: Exception | None = None
        reply = b""
        began = time.perf_counter()
        try:
            reply, done = self.call.with_call(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            failure = error
        seconds = time.perf_counter() - began
        if failure is None:
            try:
                named = self.check(question, reply)
                trailing = {name: str(value) for name, value in done.trailing_metadata() or ()}
                tally.answers[named or trailing.get(tally.HEADER, "unknown")] += 1
            except (WrongAnswer, ValueError, LookupError, TypeError, DecodeError) as error:
                failure = error
        self.environment.events.request.fire(
            request_type="gRPC",
            name=f"{self.protocol} {question.model}",
            response_time=seconds * 1000.0,
            response_length=len(reply),
            exception=failure,
            context={},
        )
