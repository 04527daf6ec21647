"""Active health: every endpoint is asked again and again, and only it decides about itself."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.balancing.endpoint import Endpoint
from gateway.balancing.health_check import HealthCheck
from gateway.balancing.warm_up import WarmUp
from gateway.inference import PoolKey
from tests.fakes import FakeInfer

POOL = PoolKey("adder", "1", "fp32")
YES, NO, LATE, BROKEN = "yes", "no", "late", "broken"


class Told(FakeInfer):
    """A backend whose readiness answers are told, the last one for ever after.

    Attributes:
        asked: what was asked, in order.
    """

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[PoolKey] = []
        self._changed = asyncio.Condition()

    async def is_ready(self, model: str, version: str, variant: str, /) -> bool:
        self.asked.append(PoolKey(model, version, variant))
        async with self._changed:
            self._changed.notify_all()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == LATE:
            await asyncio.Event().wait()
        if answer == BROKEN:
            raise ZeroDivisionError
        return answer == YES

    async def until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(condition)

    async def asked_again(self, times: int = 1) -> None:
        """Until an answer that is asked from now on has been taken in."""
        count = len(self.asked) + times + 1
        await self.until(lambda: len(self.asked) >= count)


@pytest.fixture
async def check() -> AsyncIterator[HealthCheck]:
    checking = HealthCheck(interval_seconds=0, timeout_seconds=0.001)
    yield checking
    await checking.stop()


async def started(check: HealthCheck, *backends: Told) -> list[Endpoint]:
    endpoints = [Endpoint(name, "fake", backend) for name, backend in zip("ab", backends, strict=False)]
    await check.start([(POOL, endpoints)])
    return endpoints


async def test_when_it_has_started_every_endpoint_has_answered_once(check: HealthCheck) -> None:
    well, ill = Told(YES), Told(NO)
    endpoints = await started(check, well, ill)
    assert [endpoint.is_ready for endpoint in endpoints] == [True, False]
    assert well.asked[0] == POOL


async def test_an_endpoint_that_comes_up_later_becomes_ready(check: HealthCheck) -> None:
    backend = Told(NO, NO, NO, YES)
    (endpoint,) = await started(check, backend)
    assert not endpoint.is_ready
    await backend.asked_again(4)
    assert endpoint.is_ready


@pytest.mark.parametrize("refusal", [NO, LATE, BROKEN])
async def test_one_refusal_does_not_lose_an_endpoint(check: HealthCheck, refusal: str) -> None:
    backend = Told(YES, refusal, YES, refusal, YES)
    (endpoint,) = await started(check, backend)
    states = set()
    for _ in range(6):
        await backend.asked_again(0)
        states.add(endpoint.is_ready)
    assert states == {True}


@pytest.mark.parametrize("refusal", [NO, LATE, BROKEN])
async def test_two_refusals_in_a_row_lose_an_endpoint_until_it_is_ready_again(
    check: HealthCheck, refusal: str
) -> None:
    backend = Told(YES, refusal)
    (endpoint,) = await started(check, backend)
    states = [endpoint.is_ready]
    await backend.asked_again(3)
    states.append(endpoint.is_ready)
    backend.answers = [YES]
    await backend.asked_again(2)
    states.append(endpoint.is_ready)
    assert states == [True, False, True]


@pytest.mark.parametrize("answer", [LATE, BROKEN])
async def test_an_endpoint_that_cannot_say_so_at_the_start_is_not_ready(
    check: HealthCheck, answer: str
) -> None:
    (endpoint,) = await started(check, Told(answer))
    assert not endpoint.is_ready


async def test_an_endpoint_that_hangs_keeps_nobody_else_from_being_asked(check: HealthCheck) -> None:
    hanging, well = Told(LATE), Told(NO, YES)
    _, endpoint = await started(check, hanging, well)
    await well.asked_again(3)
    assert endpoint.is_ready


async def test_after_stop_nobody_is_asked() -> None:
    check = HealthCheck(interval_seconds=0, timeout_seconds=1.0)
    backend = Told(YES)
    await started(check, backend)
    await backend.asked_again()
    await check.stop()
    asked = len(backend.asked)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(backend.asked) == asked


async def test_stop_without_start_is_fine() -> None:
    await HealthCheck(interval_seconds=1, timeout_seconds=1).stop()


class Refused(WarmUp):
    """A warm-up whose results are told, the last one for ever after."""

    def __init__(self, *results: bool) -> None:
        super().__init__({}, timeout_seconds=1.0)
        self.results = list(results)
        self.runs = 0

    async def __call__(self, _pool: PoolKey, _endpoint: Endpoint, /) -> bool:
        self.runs += 1
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]


async def test_an_endpoint_is_ready_only_once_it_is_warm_and_is_warmed_up_once() -> None:
    warm_up = Refused(False, False, True)
    check = HealthCheck(interval_seconds=0, timeout_seconds=1.0, warm_up=warm_up)
    backend = Told(YES)
    (endpoint,) = await started(check, backend)
    states = [endpoint.is_ready]
    await backend.asked_again(6)
    await check.stop()
    states.append(endpoint.is_ready)
    assert states == [False, True]
    assert warm_up.runs == 3


async def test_an_endpoint_that_is_slow_at_first_does_not_hold_up_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.balancing.health_check.START_SECONDS", 0.01)
    check = HealthCheck(interval_seconds=0, timeout_seconds=60.0)
    slow, endpoint = await started(check, Told(LATE), Told(YES))
    await check.stop()
    assert (slow.is_ready, endpoint.is_ready) == (False, True)
