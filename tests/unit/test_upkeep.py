"""What is seen to every second goes on, whatever goes wrong with one part of it."""

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway import upkeep
from gateway.upkeep import Upkeep


async def test_a_refresh_that_fails_is_logged_and_ends_none_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "EVERY_SECONDS", 0.0)
    seen, twice = [], asyncio.Event()

    def fails() -> None:
        seen.append("failed")
        raise OSError("the disk is gone")

    def goes_on() -> None:
        seen.append("went on")
        if len(seen) >= 4:
            twice.set()

    running = Upkeep([], [fails, goes_on])
    with capture_logs() as logs:
        running.start()
        await asyncio.wait_for(twice.wait(), 5)
        await running.stop()
    assert seen[:4] == ["failed", "went on"] * 2
    assert {line["event"] for line in logs} == {"refresh_failed"}
