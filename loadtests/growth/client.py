"""A closed loop that sends each request once: what a cache may not have seen before."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

from loadtests.bench.closed_loop import LoadFailed
from tests.load import read_reply


async def send_once(address: str, requests: Sequence[bytes], connections: int) -> None:
    """Send whole HTTP requests over so many connections, each with one in flight.

    Raises:
        LoadFailed: one was not answered with 200.
    """
    todo = iter(requests)

    async def work() -> None:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        for request in todo:
            writer.write(request)
            status, _, body = await read_reply(reader)
            if status != HTTPStatus.OK:
                raise LoadFailed(f"{address} answered {status}: {body[:200]!r}")
        writer.close()

    await asyncio.gather(*(work() for _ in range(connections)))
