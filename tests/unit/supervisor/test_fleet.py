"""What the fleet asks of a process that starts while something changes."""

import asyncio
import contextlib
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Self

import pytest

from gateway.supervisor import fleet as fleet_module
from gateway.supervisor.fleet import Fleet
from tests.fakes import settle, until


class FakeMember:
    """A process that has loaded its configuration once `has_started` is set."""

    made: Sequence["FakeMember"] = ()

    def __init__(self, process: int) -> None:
        self.process = self.pid = process
        self.serves = False
        self.up_seconds = 1000.0
        self.overrides: list[Mapping[str, Any]] = []
        self.rolled_back: list[tuple[str, str]] = []
        self.spread: set[tuple[str, str]] = set()
        self.texts: Mapping[str, str] = {}
        self.handed: object = None
        self.asked: list[str] = []
        self.changes: list[Mapping[str, Any]] = []
        self.has_started, self.has_ended = asyncio.Event(), asyncio.Event()
        type(self).made = (*self.made, self)

    @classmethod
    async def start(cls, process: int, *rest: object) -> Self:
        made = cls(process)
        made.handed = rest[-1]
        return made

    async def started(self) -> None:
        await self.has_started.wait()

    async def join(self, _: object) -> None:
        self.asked.append("join")
        self.serves = True

    async def ask(self, question: Mapping[str, Any], _: float) -> dict[str, Any]:
        self.asked.append(question["ask"])
        self.changes.extend([question["change"]] if question["ask"] == "change" else [])
        return {}

    async def ended(self) -> int:
        await self.has_ended.wait()
        return 0


@pytest.mark.parametrize("reloads", [0, 1])
async def test_a_process_that_was_started_before_a_reload_reloads_before_it_joins(
    monkeypatch: pytest.MonkeyPatch, reloads: int
) -> None:
    monkeypatch.setattr(fleet_module, "Member", FakeMember)
    monkeypatch.setattr(FakeMember, "made", ())
    with socket.socket() as listener:
        fleet = Fleet(2, listener, listener)
        running = asyncio.create_task(fleet.run())
        await settle()
        FakeMember.made[0].has_started.set()
        await settle()
        first, second = FakeMember.made
        for _ in range(reloads):
            async with fleet.turn:
                await fleet.ask({"ask": "reload"})
        second.has_started.set()
        await settle()
        assert first.asked == ["join", *["reload"] * reloads]
        assert second.asked == [*["reload"] * reloads, "join"]
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        fleet._shares_file.close()


async def test_a_canary_that_one_process_took_back_is_taken_back_by_the_others_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others may have read a new configuration before that one has, and must not lose its weight."""
    monkeypatch.setattr(fleet_module, "SPREAD_SECONDS", 0.001)
    with socket.socket() as listener:
        fleet = Fleet(2, listener, listener)
        first, second = FakeMember(0), FakeMember(1)
        first.serves = second.serves = True
        members: dict[int, Any] = {0: first, 1: second}
        fleet._members = members
        spreading = asyncio.create_task(fleet._keep_spreading())
        first.rolled_back = [("m", "stable")]
        await asyncio.sleep(0.05)
        assert (first.asked, second.asked) == ([], ["change"])
        assert second.changes == [{"action": "weight", "name": "m", "label": "stable", "value": 0.0}]
        spreading.cancel()
        fleet._shares_file.close()


async def test_a_process_is_handed_what_is_served_or_was_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "Member", FakeMember)
    monkeypatch.setattr(FakeMember, "made", ())
    with socket.socket() as listener:
        fleet = Fleet(2, listener, listener)
        running = asyncio.create_task(fleet.run())
        await settle()
        (first,) = FakeMember.made
        assert first.handed == {}
        first.texts = {"inferway.yaml": "a"}
        first.has_started.set()
        await settle()
        second = FakeMember.made[1]
        assert second.handed == {"inferway.yaml": "a"}
        second.has_started.set()
        second.has_ended.set()  # before it has told anything
        await until(lambda: len(FakeMember.made) == 3)
        first.texts = {"inferway.yaml": "b"}
        first.has_ended.set()
        await until(lambda: len(FakeMember.made) == 4)
        assert [member.handed for member in FakeMember.made[2:]] == [
            {"inferway.yaml": "a"},
            {"inferway.yaml": "b"},
        ]
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        fleet._shares_file.close()
