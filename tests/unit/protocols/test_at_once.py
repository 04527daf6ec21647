"""First steps without a task: what waits goes on in one, in the same context, as if it had begun there."""

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from gateway.protocols.at_once import begin, in_task

WHO = ContextVar("WHO", default="nobody")


async def begun(work: Coroutine[Any, None, None]) -> asyncio.Task[None] | None:
    """What `begin` makes of it, called as a transport calls its protocol: outside of every task."""
    done: asyncio.Future[asyncio.Task[None] | None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: done.set_result(begin(work)))
    return await done


async def test_what_never_waits_needs_no_task() -> None:
    seen: list[asyncio.Task[Any] | None] = []

    async def work() -> None:
        seen.append(asyncio.current_task())

    assert await begun(work()) is None
    assert seen == [None]


async def test_what_waits_goes_on_in_a_task_with_what_came_of_it() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    seen: list[object] = []

    async def work() -> None:
        seen.append(await future)
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
            seen.append(asyncio.current_task())

    task = await begun(work())
    assert task is not None
    future.set_result(7)
    await task
    assert seen == [7, task]


async def test_behind_in_task_there_is_a_task() -> None:
    seen: list[asyncio.Task[Any] | None] = []

    async def work() -> None:
        await in_task()
        seen.append(asyncio.current_task())
        await in_task()  # again: nothing happens

    task = await begun(work())
    assert task is not None
    await task
    assert seen == [task]


async def test_in_a_task_in_task_does_not_wait() -> None:
    with pytest.raises(StopIteration):
        in_task().send(None)


async def test_a_failure_of_what_it_waits_for_is_its_own_to_handle() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        with pytest.raises(KeyError):
            await future
        await asyncio.sleep(0)
        raise ValueError("its own")

    task = await begun(work())
    assert task is not None
    future.set_exception(KeyError())
    with pytest.raises(ValueError, match="its own"):
        await task


async def test_a_cancelled_task_cancels_what_had_begun_before_it() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append("ended")

    task = await begun(work())
    assert task is not None
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["ended"]


async def test_the_task_has_the_context_of_the_first_steps_and_nobody_else_has() -> None:
    seen: list[str] = []

    async def work() -> None:
        token = WHO.set("caller")
        await in_task()
        seen.append(WHO.get())
        WHO.reset(token)

    task = await begun(work())
    assert task is not None
    await task
    assert (seen, WHO.get()) == (["caller"], "nobody")


@pytest.mark.parametrize("waits_for", ["a future", "a task"])
async def test_what_is_cancelled_before_its_task_has_run_hears_of_it(waits_for: str) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    seen: list[str] = []

    async def work() -> None:
        try:
            await (future if waits_for == "a future" else in_task())
            await future
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    def begin_and_cancel() -> asyncio.Task[None]:
        task = begin(work())
        assert task is not None
        task.cancel()
        return task

    begins: asyncio.Future[asyncio.Task[None]] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: begins.set_result(begin_and_cancel()))
    with pytest.raises(asyncio.CancelledError):
        await (await begins)
    assert seen == ["cancelled"]
