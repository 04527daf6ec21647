"""The client of `loadtests.overload`: closed and open loops of requests that all differ, over raw HTTP."""

import asyncio
import json
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.load import read_reply

MODEL = "bert_chinese"
TOKENS = 128
CLS, SEP = 101, 102
LATE_SECONDS = 0.05
"""How much later than its deadline an answer may end."""


@dataclass
class Phase:
    """What came of the requests of one load that were sent after its warm-up.

    Attributes:
        offered: sent.
        good: answered within the deadline; `seconds` has how long each took.
        shed: 503.
        late: anything else, mostly 504.
        ended_late: of all, those that ended over 50 ms after the deadline.
        no_retry_after: of those shed, those without a `retry-after`.
        rss_bytes: of the gateway, before and after.
    """

    load: float
    duration_seconds: float
    offered: int = 0
    good: int = 0
    shed: int = 0
    late: int = 0
    ended_late: int = 0
    no_retry_after: int = 0
    seconds: list[float] = field(default_factory=list)
    rss_bytes: tuple[int, int] = (0, 0)

    def percentile(self, q: float) -> int | None:
        """Of the answers in time, in milliseconds; None when there were none."""
        return round(float(np.percentile(self.seconds, q)) * 1000) if self.seconds else None


class Client:
    """Keeps connections, and opens another one when all are in use.

    Args:
        address: host:port of the gateway's HTTP.
        deadline_seconds: what each request asks for.
        rng: of the tokens.
    """

    def __init__(self, address: str, deadline_seconds: float, rng: random.Random) -> None:
        self._address = address.split(":")
        self._deadline_seconds = deadline_seconds
        self._rng = np.random.default_rng(rng.randrange(2**32))
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, phase: Phase, *, counts: bool) -> float:
        """One request; returns how long it took."""
        connection = self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)
        reader, writer = connection
        began = time.monotonic()
        writer.write(self._request())
        status, headers, _ = await read_reply(reader)
        took = time.monotonic() - began
        self._idle.append(connection)
        if counts:
            phase.offered += 1
            phase.ended_late += took > self._deadline_seconds + LATE_SECONDS
            if status == 200 and took <= self._deadline_seconds:  # noqa: PLR2004
                phase.good += 1
                phase.seconds.append(took)
            elif status == 503:  # noqa: PLR2004
                phase.shed += 1
                phase.no_retry_after += "retry-after" not in headers
            else:
                phase.late += 1
        return took

    def _request(self) -> bytes:
        tokens = self._rng.integers(1000, 8000, (1, TOKENS), np.int64)
        tokens[0, 0], tokens[0, -1] = CLS, SEP
        data = tokens.tobytes()
        tensor = {
            "name": "tokens",
            "datatype": "INT64",
            "shape": list(tokens.shape),
            "parameters": {"binary_data_size": len(data)},
        }
        header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        lines = (
            f"POST /v2/models/{MODEL}/infer HTTP/1.1",
            "host: gateway",
            f"inference-header-content-length: {len(header)}",
            f"content-length: {len(header) + len(data)}",
            f"x-request-timeout-ms: {self._deadline_seconds * 1000:.0f}",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + header + data

    async def until_idle(self) -> None:
        """Wait until the engine is done with what others gave up."""
        phase, fast = Phase(0.0, 0.0), 0
        while fast < 3:  # noqa: PLR2004
            good = phase.good
            await self.ask(phase, counts=True)
            fast = fast + 1 if phase.good > good else 0
            await asyncio.sleep(0.2)

    def close(self) -> None:
        """Close every connection."""
        for _, writer in self._idle:
            writer.close()


async def closed(client: Client, connections: int, seconds: float) -> Phase:
    """So many users, each of whom asks again as soon as it has an answer."""
    phase = Phase(0.0, seconds)
    began = time.monotonic()
    end = began + seconds + 1.0

    async def use() -> None:
        while time.monotonic() < end:
            await client.ask(phase, counts=began + 1.0 <= time.monotonic() < end)

    await asyncio.gather(*(use() for _ in range(connections)))
    return phase


async def opened(
    client: Client, pid: int, rate: float, load: float, seconds: float, rng: random.Random
) -> Phase:
    """Poisson arrivals at `rate` a second; the first quarter more does not count."""
    phase = Phase(load, seconds)
    before = rss_bytes(pid)
    tasks: set[asyncio.Task[float]] = set()
    arrival = began = time.monotonic()
    counted = began + seconds / 4
    while (arrival := arrival + rng.expovariate(rate)) < counted + seconds:
        await asyncio.sleep(arrival - time.monotonic())
        tasks.add(asyncio.create_task(client.ask(phase, counts=arrival >= counted)))
        for task in [task for task in tasks if task.done()]:
            task.result()
            tasks.discard(task)
    await asyncio.gather(*tasks)
    phase.rss_bytes = (before, rss_bytes(pid))
    return phase


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
