"""What the supervisor makes of a process that does not answer."""

import asyncio
import socket
from typing import Any, cast

import pytest

from gateway.process_channel import Channel, ChannelClosed
from gateway.supervisor import member as member_module
from gateway.supervisor.member import Member
from gateway.supervisor.silence import Sight
from tests.fakes import settle, until

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


class Looks:
    """What `see` finds: threads in this state, which use no CPU time."""

    def __init__(self, state: str) -> None:
        self.count = 0
        self._state = frozenset(state)

    def __call__(self, _: int, at: float) -> Sight:
        self.count += 1
        return Sight(at, self._state, 0.0)


@pytest.mark.parametrize(
    ("serves", "state", "is_killed"), [(False, "S", False), (False, "T", True), (True, "S", True)]
)
async def test_only_what_serves_owes_an_answer_but_what_is_stopped_is_killed_at_any_time(
    monkeypatch: pytest.MonkeyPatch, *, serves: bool, state: str, is_killed: bool
) -> None:
    looks = Looks(state)
    monkeypatch.setattr(member_module, "see", looks)
    monkeypatch.setattr(member_module, "LOOK_SECONDS", 0.0)
    ours, theirs = socket.socketpair()
    child = FakeChild(theirs)
    member = Member(0, cast("Any", child), await Channel.over(ours))
    member.serves = serves
    await until(lambda: child.status is not None or looks.count >= 100)
    assert child.status == (-9 if is_killed else None)
    child.kill()
    assert await member.ended() == -9
    await settle()  # so that its end of the channel is closed


async def test_a_process_that_hangs_when_it_is_to_join_is_killed_and_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(member_module, "JOIN_SECONDS", 0.05, raising=False)
    ours, theirs = socket.socketpair()
    member = Member(0, cast("Any", FakeChild(theirs)), await Channel.over(ours))
    with pytest.raises(ChannelClosed):
        await asyncio.wait_for(member.join([]), SOON)
    assert (await member.ended(), member.serves) == (-9, False)
