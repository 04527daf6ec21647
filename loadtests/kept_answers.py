"""What the memory tier keeps, over four kinds of traffic, against others; and what a hit costs.

`python -m loadtests.kept_answers` writes them into docs/performance.md. Deterministic but for the cost of a
hit. Answers are of two sizes, as of a model with ten classes and one with a thousand.
"""

import asyncio
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.caching.memory import ENTRY_OVERHEAD_BYTES, MemoryStore
from gateway.inference import InferResponse, Tensor
from loadtests.conditions import conditions
from tests.serving import ROOT

SEED = 6
REQUESTS = 300_000
INPUTS = 100_000
ZIPF = 0.9
"""Exponent: the share of an input falls with its rank to this power. Web caches see 0.64 to 0.83 (Breslau,
Cao, Fan, Phillips, Shenker 1999); benchmarks of caches take 0.9 to 1."""
ROOM = (0.01, 0.05, 0.2)
"""Of what all inputs' answers would take."""
OUTPUT_BYTES = (40, 4000)

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- made by loadtests.kept_answers -->", "<!-- end of kept answers -->"


class Policy(Protocol):
    """A cache, as far as a simulation needs it."""

    async def get(self, model: str, key: bytes, /) -> InferResponse | None:
        """What is kept."""
        ...

    async def put(self, key: bytes, response: InferResponse, ttl_seconds: float, /) -> None:
        """Keep an answer."""
        ...


class Lru:
    """Least recently used out first: what others are measured against."""

    def __init__(self, limit_bytes: int) -> None:
        self._left_bytes = limit_bytes
        self._entries: OrderedDict[bytes, InferResponse] = OrderedDict()

    async def get(self, _model: str, key: bytes, /) -> InferResponse | None:
        """What is kept."""
        response = self._entries.get(key)
        if response is not None:
            self._entries.move_to_end(key)
        return response

    async def put(self, key: bytes, response: InferResponse, _ttl_seconds: float, /) -> None:
        """Keep an answer."""
        self._entries[key] = response
        self._left_bytes -= size_of(response)
        while self._left_bytes < 0:
            self._left_bytes += size_of(self._entries.popitem(last=False)[1])


class WTinyLfu:
    """W-TinyLFU (Einziger, Friedman, Manes: TinyLFU, ACM Transactions on Storage 13 (4), 2017).

    A window of 1 % in front of a segmented LRU, four fifths of it protected; what leaves the window gets in
    only over entries that were asked for less often. Uses are counted exactly up to 15, where the paper has a
    sketch, and halved after ten times as many requests as there are entries: an upper bound of what a sketch
    can do.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._window_bytes = limit_bytes // 100
        self._main_bytes = limit_bytes - self._window_bytes
        self._protected_bytes = self._main_bytes * 4 // 5
        self._window, self._protected, self._probation = Segment(), Segment(), Segment()
        self._uses: dict[bytes, int] = {}
        self._counted = 0

    async def get(self, _model: str, key: bytes, /) -> InferResponse | None:
        """What is kept."""
        self._count(key)
        for segment in (self._window, self._protected):
            if key in segment.entries:
                segment.entries.move_to_end(key)
                return segment.entries[key]
        response = self._probation.entries.get(key)
        if response is not None:
            self._probation.remove(key)
            self._protected.add(key, response)
            while self._protected.size_bytes > self._protected_bytes:
                self._probation.add(*self._protected.pop_oldest())
        return response

    async def put(self, key: bytes, response: InferResponse, _ttl_seconds: float, /) -> None:
        """Keep an answer."""
        self._window.add(key, response)
        while self._window.size_bytes > self._window_bytes:
            self._admit(*self._window.pop_oldest())

    def _admit(self, key: bytes, response: InferResponse) -> None:
        room = self._main_bytes - size_of(response)
        while self._probation.size_bytes + self._protected.size_bytes > room:
            segment = self._probation if self._probation.entries else self._protected
            victim = next(iter(segment.entries))
            if self._uses.get(victim, 0) >= self._uses.get(key, 0):
                return
            segment.remove(victim)
        self._probation.add(key, response)

    def _count(self, key: bytes) -> None:
        self._uses[key] = min(15, self._uses.get(key, 0) + 1)
        self._counted += 1
        entries = sum(len(part.entries) for part in (self._window, self._protected, self._probation))
        if self._counted >= 10 * max(100, entries):
            self._counted //= 2
            self._uses = {key: uses // 2 for key, uses in self._uses.items() if uses > 1}


class Segment:
    """An LRU that knows its size."""

    def __init__(self) -> None:
        self.entries: OrderedDict[bytes, InferResponse] = OrderedDict()
        self.size_bytes = 0

    def add(self, key: bytes, response: InferResponse) -> None:
        """As the newest."""
        self.entries[key] = response
        self.size_bytes += size_of(response)

    def remove(self, key: bytes) -> None:
        """Drop an entry."""
        self.size_bytes -= size_of(self.entries.pop(key))

    def pop_oldest(self) -> tuple[bytes, InferResponse]:
        """Drop the oldest entry."""
        key, response = self.entries.popitem(last=False)
        self.size_bytes -= size_of(response)
        return key, response


POLICIES: dict[str, Callable[[int], Policy]] = {
    "LRU": Lru,
    "W-TinyLFU": WTinyLfu,
    "the memory tier (S3-FIFO)": MemoryStore,
}


def size_of(response: InferResponse) -> int:
    """Bytes that an answer takes."""
    return len(response.outputs[0].data) + ENTRY_OVERHEAD_BYTES


def zipf(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Numbers of inputs; 0 is asked for most often."""
    shares = np.arange(1, INPUTS + 1) ** -ZIPF
    return rng.choice(INPUTS, count, p=shares / shares.sum())


def traffic() -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Kinds of traffic: which input each request has."""
    rng = np.random.default_rng(SEED)
    yield "Zipf 0.9", zipf(rng, REQUESTS)
    scans = zipf(rng, REQUESTS).reshape(-1, 15_000)
    scans[:, 10_000:] = INPUTS + np.arange(scans.shape[0] * 5_000).reshape(-1, 5_000)
    yield "Zipf, a third of it scans of 5,000 new inputs", scans.ravel()
    once = zipf(rng, REQUESTS)
    is_new = rng.random(REQUESTS) < 1 / 3
    once[is_new] = INPUTS + np.arange(is_new.sum())
    yield "Zipf, a third of it inputs that come once", once
    shifts = zipf(rng, REQUESTS).reshape(-1, 50_000)
    shifts = (shifts + 7919 * np.arange(shifts.shape[0])[:, None]) % INPUTS
    yield "Zipf, other inputs are the frequent ones after every 50,000", shifts.ravel()


async def hit_ratio(policy: Policy, keys: Sequence[bytes], answers: Sequence[InferResponse]) -> float:
    """Share of the requests whose answer was kept; every other is kept then."""
    hits = 0
    for number, key in enumerate(keys):
        if await policy.get("m", key) is None:
            await policy.put(key, answers[number % 7 == 0], 1e9)
        else:
            hits += 1
    return hits / len(keys)


async def hit_nanoseconds(policy: Policy) -> float:
    """CPU of one hit, the least of five rounds."""
    keys = [number.to_bytes(32, "big") for number in range(2000)]
    for key in keys:
        await policy.put(key, answer(40), 1e9)
    rounds = []
    for _ in range(5):
        start = time.process_time_ns()
        for _ in range(20):
            for key in keys:
                await policy.get("m", key)
        rounds.append((time.process_time_ns() - start) / (20 * len(keys)))
    return min(rounds)


def answer(output_bytes: int) -> InferResponse:
    """One of that size."""
    return InferResponse("m", "1", (Tensor("y", "UINT8", (output_bytes,), bytes(output_bytes)),))


async def table() -> str:
    """The figures as a table in Markdown."""
    answers = [answer(size) for size in OUTPUT_BYTES]
    mean_bytes = (6 * size_of(answers[0]) + size_of(answers[1])) / 7
    lines = [f"| traffic | room | {' | '.join(POLICIES)} |", "|---|---|" + "---|" * len(POLICIES)]
    for name, inputs in traffic():
        keys = [int(number).to_bytes(32, "big") for number in inputs]
        for room in ROOM:
            limit_bytes = int(room * INPUTS * mean_bytes)
            ratios = [await hit_ratio(new(limit_bytes), keys, answers) for new in POLICIES.values()]
            cells = (f"{ratio:.1%}" for ratio in ratios)
            lines.append(f"| {name} | {room:.0%} | {' | '.join(cells)} |")
    costs = [f"{await hit_nanoseconds(new(2**30)):.0f} ns" for new in POLICIES.values()]
    lines.append(f"| CPU of a hit | | {' | '.join(costs)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write the page."""
    text = f"{conditions(['numpy'])}; seed {SEED}, {REQUESTS:,} requests.\n\n{asyncio.run(table())}\n"
    sys.stdout.write(text)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
