"""The largest rate at which 99 of 100 answers come in time: the "Server" scenario of MLPerf Inference.

Reddi et al., "MLPerf Inference Benchmark", 2020 (arXiv 1911.02549), section IV: queries arrive by a Poisson
process, and the figure is the largest rate whose tail latency keeps the bound. Its runs last minutes; ours
seconds.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

Run = TypeVar("Run")


async def largest_rate(
    attempt: Callable[[float], Awaitable[Run]],
    is_met: Callable[[Run], bool],
    *,
    upper: float,
    steps: int,
    tries: int,
) -> tuple[float, Run | None]:
    """Halve the interval below `upper`, step by step.

    Args:
        attempt: sends at a rate, requests a second.
        is_met: whether a run has kept the bound.
        upper: a rate that is surely too much, above 0.
        steps: how many halvings: the figure is exact to `upper` / 2 ** `steps`.
        tries: how often a rate may miss the bound before it counts as too much: one hiccup of the machine
            must not cost half of the figure.

    Returns:
        The largest rate that was met and its run; 0 and None when none was.
    """
    low, high = 0.0, upper
    best: Run | None = None
    for _ in range(steps):
        rate = (low + high) / 2
        for _ in range(tries):
            run = await attempt(rate)
            if is_met(run):
                low, best = rate, run
                break
        else:
            high = rate
    return low, best
