"""Questions and answers between two processes of one gateway, over a pair of sockets that only they have.

A message is a JSON object, and before it its length in bytes (4 bytes, big-endian). Answers come in any
order: a reload that takes seconds holds up no metrics.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Self

import structlog

Message = dict[str, Any]
Answering = Callable[[Message], Awaitable[Message]]

_LENGTH = struct.Struct(">I")
_log = structlog.get_logger()


class ChannelClosed(Exception):
    """The process at the other end is gone."""


class Channel:
    """One end.

    Args:
        reader: of the socket.
        writer: of the socket.
        answer: answers what the other end asks; None where it asks nothing.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answering | None = None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._asked = 0
        self._is_closed = False

    @classmethod
    async def over(cls, end: socket.socket, answer: Answering | None = None) -> Self:
        """A channel over one socket of a pair."""
        end.setblocking(False)
        return cls(*await asyncio.open_connection(sock=end), answer)

    async def ask(self, question: Message, timeout_seconds: float | None) -> Message:
        """The other end's answer.

        Raises:
            ChannelClosed: it is gone.
            TimeoutError: it did not answer in time.
        """
        if self._is_closed:
            raise ChannelClosed
        self._asked += 1
        number = self._asked
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._send({"number": number, "question": question})
            async with asyncio.timeout(timeout_seconds):
                answer: Message = await future
                return answer
        finally:
            del self._waiting[number]

    async def run(self) -> None:
        """Take questions and answers until the other end is gone."""
        try:
            while True:
                (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                self._take(json.loads(await self._reader.readexactly(length)))
        except (asyncio.IncompleteReadError, OSError):
            pass  # it is gone: what `run` waits for
        finally:
            self._is_closed = True
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ChannelClosed())
            self._writer.close()

    def _take(self, message: Message) -> None:
        number = message["number"]
        if "question" in message:
            task = asyncio.create_task(self._reply(number, message["question"]))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return
        future = self._waiting.get(number)
        if future is not None and not future.done():
            future.set_result(message["answer"])

    async def _reply(self, number: int, question: Message) -> None:
        assert self._answer is not None  # noqa: S101 - an end that is asked has one
        try:
            answer = await self._answer(question)
        except Exception as error:  # noqa: BLE001 - whoever waits there is told
            _log.exception("question_failed", ask=question.get("ask"))
            answer = {"failed": f"{type(error).__name__}: {error}"}
        if not self._is_closed:
            self._send({"number": number, "answer": answer})

    def _send(self, message: Message) -> None:
        data = json.dumps(message).encode()
        self._writer.write(_LENGTH.pack(len(data)) + data)
