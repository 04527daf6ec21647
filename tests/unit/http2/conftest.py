"""Every test here runs on asyncio's loop and on uvloop; nothing may reach the loop's exception handler."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest_asyncio
import uvloop

from tests.fakes import settle


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture(autouse=True)
async def _nothing_escapes() -> AsyncIterator[None]:
    escaped: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    yield
    await settle()
    gc.collect(1)  # what the test made is young
    await settle()
    assert not escaped
