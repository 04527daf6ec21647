"""Two processes of one gateway: each question gets its own answer, or an end."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.process_channel import Channel, ChannelClosed, Message

SOON = 10.0


class Ends:
    """Both ends of a channel; `slow` questions are answered when `hurry` is set."""

    def __init__(self, asking: Channel, answering: Channel, hurry: asyncio.Event) -> None:
        self.asking, self.answering, self.hurry = asking, answering, hurry
        self.tasks = [asyncio.create_task(end.run()) for end in (asking, answering)]


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    one, other = socket.socketpair()
    hurry = asyncio.Event()

    async def answer(question: Message) -> Message:
        if question["ask"] == "slow":
            await hurry.wait()
        if question["ask"] == "wrong":
            raise ValueError("no such question")
        return {"said": question["ask"]}

    made = Ends(await Channel.over(one), await Channel.over(other, answer), hurry)
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_a_slow_answer_holds_up_no_other(ends: Ends) -> None:
    slow = asyncio.create_task(ends.asking.ask({"ask": "slow"}, SOON))
    assert await ends.asking.ask({"ask": "fast"}, SOON) == {"said": "fast"}
    ends.hurry.set()
    assert await slow == {"said": "slow"}


async def test_a_long_answer_arrives_whole(ends: Ends) -> None:
    long = "x" * 5_000_000
    assert await ends.asking.ask({"ask": long}, SOON) == {"said": long}


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(ends: Ends) -> None:
    with pytest.raises(TimeoutError):
        await ends.asking.ask({"ask": "slow"}, 0.01)
    ends.hurry.set()
    assert await ends.asking.ask({"ask": "next"}, SOON) == {"said": "next"}


async def test_a_question_that_fails_there_says_so_here(ends: Ends) -> None:
    assert await ends.asking.ask({"ask": "wrong"}, SOON) == {"failed": "ValueError: no such question"}


async def test_whoever_waits_for_a_process_that_ends_is_told(ends: Ends) -> None:
    slow = asyncio.create_task(ends.asking.ask({"ask": "slow"}, SOON))
    await asyncio.sleep(0)
    ends.tasks[1].cancel()
    with pytest.raises(ChannelClosed):
        await slow
    await ends.tasks[0]
    with pytest.raises(ChannelClosed):
        await ends.asking.ask({"ask": "fast"}, SOON)
