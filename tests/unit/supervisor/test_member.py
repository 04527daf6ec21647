"""What the supervisor makes of a process that does not answer."""

import asyncio
import socket
from typing import Any, cast

import pytest

from gateway.process_channel import Channel, ChannelClosed
from gateway.supervisor import member as member_module
from gateway.supervisor.member import Member

SOON = 2.0


class FakeChild:
    """A process that ends when it is killed, and its end of the channel with it."""

    pid = 1

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.status: int | None = None

    def kill(self) -> None:
        self._end.close()
        self.status = -9

    def poll(self) -> int | None:
        return self.status

    def wait(self) -> int | None:
        return self.status


async def test_a_process_that_hangs_when_it_is_to_join_is_killed_and_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(member_module, "JOIN_SECONDS", 0.05, raising=False)
    ours, theirs = socket.socketpair()
    member = Member(0, cast("Any", FakeChild(theirs)), await Channel.over(ours))
    with pytest.raises(ChannelClosed):
        await asyncio.wait_for(member.join([]), SOON)
    assert (await member.ended(), member.serves) == (-9, False)
