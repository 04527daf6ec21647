"""Active health: every endpoint is asked again and again, and only it decides about itself."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from gateway.backends import CannotServe
from gateway.balancing.endpoint import Endpoint
from gateway.balancing.heal import Heal
from gateway.balancing.health_check import HealthCheck
from gateway.balancing.warm_up import WarmUp
from gateway.inference import PoolKey
from gateway.metrics import Metrics
from tests.fakes import FakeClock, FakeInfer, settle

POOL = PoolKey("adder", "1", "fp32")
YES, NO, LATE, BROKEN = "yes", "no", "late", "broken"
PROBLEM = "model.onnx: it is no network\nmodel.onnx: nor anything else"


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
        if answer == PROBLEM:
            raise CannotServe(PROBLEM)
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


async def test_one_that_becomes_ready_again_is_not_known_by_its_old_latency(check: HealthCheck) -> None:
    backend = Told(YES, NO)
    (endpoint,) = await started(check, backend)
    endpoint.latency.observe(2.0, 1000.0)
    await backend.asked_again(3)
    endpoint.latency.gave_up(2.5, 1000.0)  # what was in flight when it was lost ends later
    backend.answers = [YES]
    await backend.asked_again(2)
    assert endpoint.latency.at(1000.0) == 0


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


async def test_of_very_many_one_in_doubt_is_asked_at_once_and_the_others_in_their_turn() -> None:
    check = HealthCheck(interval_seconds=0, timeout_seconds=1.0, most_per_second=0.001)
    suspect, well = Told(YES), Told(YES)
    pool = [Endpoint(name, "fake", backend) for name, backend in (("a", suspect), ("b", well))]
    pool[0].outlier.failed(0.0)
    await check.start([(POOL, pool)])
    await suspect.asked_again(5)
    assert len(well.asked) <= 2
    await check.stop()


async def test_one_that_is_not_ready_does_not_wait_behind_the_many_that_are() -> None:
    check = HealthCheck(interval_seconds=0, timeout_seconds=1.0, most_per_second=0.001)
    backends = [*(Told(YES) for _ in range(20)), Told(NO)]
    await check.start([(POOL, [Endpoint(str(at), "fake", each) for at, each in enumerate(backends)])])
    await backends[-1].asked_again(0)
    await check.stop()


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


async def test_an_endpoint_that_joins_is_asked_and_one_that_leaves_no_more(check: HealthCheck) -> None:
    await started(check, Told(YES))
    backend = Told(NO, YES)
    endpoint = Endpoint("c", "fake", backend)
    await check.watch(POOL, endpoint).wait()
    await backend.asked_again()
    assert endpoint.is_ready
    check.unwatch(endpoint)
    asked = len(backend.asked)
    await settle()
    assert len(backend.asked) == asked


async def test_an_endpoint_that_is_watched_twice_is_asked_by_one(check: HealthCheck) -> None:
    endpoint = Endpoint("c", "fake", Told(YES))
    for _ in range(2):
        await check.watch(POOL, endpoint).wait()
    check.unwatch(endpoint)
    asked = len(endpoint.infer.asked)  # type: ignore[attr-defined]
    await settle()
    assert len(endpoint.infer.asked) == asked  # type: ignore[attr-defined]


async def test_stop_without_start_is_fine() -> None:
    await HealthCheck(interval_seconds=1, timeout_seconds=1).stop()


class Refused(WarmUp):
    """A warm-up whose results are told, the last one for ever after."""

    def __init__(self, *results: bool) -> None:
        super().__init__({}, timeout_seconds=1.0, attempt_timeout_seconds=1.0)
        self.results = list(results)
        self.runs = 0
        self.still_answers_it = True
        self.asked_still = 0

    async def __call__(self, _pool: PoolKey, _endpoint: Endpoint, /) -> bool:
        self.runs += 1
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]

    async def still_answers(self, _pool: PoolKey, _endpoint: Endpoint, /) -> bool:
        self.asked_still += 1
        return self.still_answers_it


async def test_an_endpoint_that_has_failed_must_still_answer_though_it_says_ready() -> None:
    warm_up = Refused(True)
    check = HealthCheck(interval_seconds=0, timeout_seconds=1.0, warm_up=warm_up)
    backend = Told(YES)
    (endpoint,) = await started(check, backend)
    await backend.asked_again(3)
    assert warm_up.asked_still == 0
    endpoint.outlier.failed(1000.0)
    await backend.asked_again(3)
    assert (warm_up.asked_still > 0, endpoint.is_ready) == (True, True)
    warm_up.still_answers_it, warm_up.results = False, [False]
    await backend.asked_again(3)
    assert not endpoint.is_ready
    await check.stop()


class Mending(Told):
    """A backend that says ready and answers nothing until it is healed."""

    def __init__(self, *results: bool | None) -> None:
        super().__init__(YES)
        self.results = list(results)
        self.heals: list[tuple[str, str]] = []
        self.is_well = False

    async def heal(self, model: str, variant: str, /) -> bool | None:
        self.heals.append((model, variant))
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        self.is_well = bool(result)
        return result


class Dead(Refused):
    """A warm-up that a `Mending` backend passes once it is healed."""

    async def __call__(self, pool: PoolKey, endpoint: Endpoint, /) -> bool:
        self.runs += 1
        return await self.still_answers(pool, endpoint)

    async def still_answers(self, _pool: PoolKey, endpoint: Endpoint, /) -> bool:
        assert isinstance(endpoint.infer, Mending)
        return endpoint.infer.is_well


async def until(backend: Told, condition: Callable[[], bool]) -> None:
    while not condition():
        await backend.asked_again()


async def test_what_says_ready_and_answers_nothing_is_healed_and_warmed_up_before_it_takes_traffic() -> None:
    registry, warm_up, backend = CollectorRegistry(), Dead(True), Mending(True)
    heal = Heal(Metrics(registry), clock=FakeClock())
    check = HealthCheck(interval_seconds=0, timeout_seconds=1.0, warm_up=warm_up, heal=heal)
    endpoint = Endpoint("a", "fake", backend, is_ready=True)
    endpoint.outlier.failed(1000.0)
    check.watch(POOL, endpoint)
    await until(backend, lambda: len(backend.heals) > 0)
    await until(backend, lambda: warm_up.runs > 0)
    await backend.asked_again()
    await check.stop()
    assert endpoint.is_ready
    assert backend.heals == [("adder", "fp32")]
    labels = {"endpoint": "a", "model": "adder", "version": "1", "variant": "fp32", "backend": "fake"}
    assert registry.get_sample_value("gateway_endpoint_heals_total", {**labels, "result": "healed"}) == 1


class Clumsy(Told):
    """A backend whose heal breaks."""

    async def heal(self, _model: str, _variant: str, /) -> bool | None:
        raise ZeroDivisionError


async def test_a_heal_that_breaks_does_not_end_the_asking() -> None:
    backend = Clumsy(NO, YES)
    heal = Heal(Metrics(CollectorRegistry()), clock=FakeClock())
    check = HealthCheck(interval_seconds=0, timeout_seconds=1.0, heal=heal)
    (endpoint,) = await started(check, backend)
    await backend.asked_again(2)
    await check.stop()
    assert endpoint.is_ready


async def test_between_two_heals_some_seconds_pass() -> None:
    registry, clock, backend = CollectorRegistry(), FakeClock(), Mending(False)
    heal, endpoint = Heal(Metrics(registry), clock=clock), Endpoint("a", "fake", backend)
    tried = []
    for _ in range(12):
        await heal(POOL, endpoint)
        tried.append(len(backend.heals))
        clock.now += 1.0
    assert tried == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3]


async def test_where_there_is_nothing_to_heal_the_next_time_is_not_put_off_and_nothing_is_counted() -> None:
    registry, backend = CollectorRegistry(), Mending(None)
    heal, endpoint = Heal(Metrics(registry), clock=FakeClock()), Endpoint("a", "fake", backend)
    for _ in range(3):
        assert not await heal(POOL, endpoint)
    assert len(backend.heals) == 3
    assert "heals_total{" not in generate_latest(registry).decode()


async def test_a_backend_that_cannot_heal_is_left_alone() -> None:
    heal = Heal(Metrics(CollectorRegistry()), clock=FakeClock())
    assert not await heal(POOL, Endpoint("a", "fake", FakeInfer()))


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


async def test_what_keeps_an_endpoint_from_serving_is_told_once_and_forgotten_when_it_is_mended(
    check: HealthCheck,
) -> None:
    backend = Told(PROBLEM, PROBLEM, PROBLEM, PROBLEM, YES)
    with capture_logs() as logs:
        (endpoint,) = await started(check, backend)
        assert (endpoint.is_ready, endpoint.problem) == (False, PROBLEM)
        await backend.asked_again(6)
    told = [line for line in logs if line["event"] == "endpoint_cannot_serve"]
    assert [line["problems"] for line in told] == [PROBLEM.splitlines()]
    assert (endpoint.is_ready, endpoint.problem) == (True, "")


async def test_an_endpoint_that_is_slow_at_first_does_not_hold_up_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.balancing.health_check.START_SECONDS", 0.01)
    check = HealthCheck(interval_seconds=0, timeout_seconds=60.0)
    slow, endpoint = await started(check, Told(LATE), Told(YES))
    await check.stop()
    assert (slow.is_ready, endpoint.is_ready) == (False, True)
