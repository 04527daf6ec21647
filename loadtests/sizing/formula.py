"""Replicas, waits and the autoscalers' targets as functions of what was measured. Pure.

The wait is that of an M/G/1 queue: the Pollaczek-Khinchine mean, and a tail that falls as that of M/M/1
(Kleinrock, Queueing Systems, volume 1, 1975, chapters 3 and 5). What is in flight is rate times latency
(Little, Operations Research 9, 1961).
"""

import math

TARGET_SHARE = 0.6
"""Of what a replica can do, at most, as long as none is missing: three replicas that do this are at 0.9 each
when one is lost, and the wait's p99 is still a few times the work itself."""
SHARE_WITHOUT_ONE = 0.9
"""The same once a replica is lost."""
ENGINE_SECONDS = 0.05
"""How long an engine takes for a request, its queue included, in the target of requests in flight: of what a
gateway waits for at its target rate, more is the engines' trouble and not the gateway's."""
IN_FLIGHT_STEP = 8


def request_us(hit_us: float, miss_us: float, hit_ratio: float) -> float:
    """CPU microseconds of a gateway for an average request."""
    return hit_ratio * hit_us + (1 - hit_ratio) * miss_us


def replicas(rate: float, cpu_us: float, cores: float = 1.0, share: float = TARGET_SHARE) -> int:
    """How many are needed for a rate, with one more than can be lost.

    Args:
        rate: requests a second to all of them.
        cpu_us: CPU microseconds of one request.
        cores: that one replica can use; a gateway process uses one.
        share: of what each can do, while all are there.
    """
    demand = rate * cpu_us / 1e6 / cores
    return max(math.ceil(demand / share), math.ceil(demand / SHARE_WITHOUT_ONE) + 1)


def wait_p99_seconds(service_seconds: float, share: float, variation: float = 1.0) -> float:
    """The wait that 99 of 100 requests stay under.

    Args:
        service_seconds: of the server for one request.
        share: of its time that it is busy.
        variation: squared coefficient of variation of the service: 0 when always the same, 1 exponential.
    """
    if share <= 0.01:  # noqa: PLR2004 - then 99 of 100 find it idle
        return 0.0
    mean_of_those_that_wait = service_seconds * (1 + variation) / 2 / (1 - share)
    return mean_of_those_that_wait * math.log(100 * share)


def largest_share(service_seconds: float, p99_seconds: float, variation: float = 1.0) -> float:
    """The largest share, up to the target, at which service and wait stay under a p99; 0 where none does."""
    for percent in range(round(TARGET_SHARE * 100), 0, -1):
        wait = wait_p99_seconds(service_seconds, percent / 100, variation)
        if service_seconds + wait <= p99_seconds:
            return percent / 100
    return 0.0


def in_flight_target(miss_us: float) -> int:
    """Requests in flight in one gateway that misses alone bring to its CPU target; in whole steps."""
    in_flight = TARGET_SHARE * 1e6 / miss_us * ENGINE_SECONDS
    return max(1, int(in_flight // IN_FLIGHT_STEP)) * IN_FLIGHT_STEP
