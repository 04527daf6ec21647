"""A gateway that reloads."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.unit.reload.reload_rig import Rig


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    async with rig.gateway:
        yield rig
