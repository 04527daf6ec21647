"""Canaries at work behind Resolved: drawn, watched, taken back; labels that move."""

import asyncio

import pytest
import structlog.testing

from gateway.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    Overloaded,
    QuotaExceeded,
    RejectedByBackend,
    Unavailable,
    VersionNotFound,
)
from gateway.keys.key import CALLER, Key
from tests.fakes import FakeInfer, a_request
from tests.unit.rollouts.rollouts_rig import Rig


async def test_the_weight_decides_how_many_the_canary_answers() -> None:
    answered = await Rig(weight=0.25).ask(times=400)
    assert answered.count("2") / 400 == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize("said", [{"version": "1"}, {"label": "stable"}, {"variant": "fp32"}])
async def test_who_asks_for_a_version_a_label_or_a_variant_gets_that(said: dict[str, str]) -> None:
    assert await Rig().ask(times=5, **said) == ["1"] * 5


async def test_a_canary_never_answers_from_the_stable_sides_cache_nor_fills_it() -> None:
    rig = Rig()
    request = a_request()
    facts = []
    for weight in (0.0, 1.0, 0.0, 1.0):
        rig.rollouts.set_weight("adder", "", weight)
        answer = await rig.infer(request)
        facts.append((answer.version, answer.cache))
    assert facts == [("1", "miss"), ("2", "miss"), ("1", "memory"), ("2", "memory")]


async def test_the_header_keeps_a_caller_on_its_side_and_no_key_knows_it() -> None:
    rig = Rig(weight=0.5, sticky="header")
    sides = {caller: await rig.ask(times=4, sticky=caller) for caller in "abcdefghij"}
    assert all(len(set(answered)) == 1 for answered in sides.values())
    assert len({answered[0] for answered in sides.values()}) == 2
    same = await rig.infer(a_request(sticky="a")), await rig.infer(a_request(sticky="a", id="again"))
    assert [answer.cache for answer in same] == ["miss", "memory"]


async def test_the_api_key_keeps_its_caller_on_a_side() -> None:
    rig = Rig(weight=0.5, sticky="key")
    sides = []
    for number in range(10):
        token = CALLER.set(Key(f"{number:012x}", "name", bytes(32)))
        sides.append(set(await rig.ask(times=4)))
        CALLER.reset(token)
    assert {len(side) for side in sides} == {1}
    assert len(set.union(*sides)) == 2


async def test_who_sends_nothing_to_be_kept_by_is_drawn_by_chance() -> None:
    for sticky in ("header", "key"):
        answered = await Rig(weight=0.5, sticky=sticky).ask(times=200)
        assert answered.count("2") / 200 == pytest.approx(0.5, abs=0.1)


async def test_a_canary_without_an_endpoint_that_takes_traffic_is_not_drawn() -> None:
    rig = Rig()
    rig.ready = False
    assert await rig.ask(times=3) == ["1", "1", "1"]
    assert rig.weight == 1.0


async def test_a_canary_that_fails_is_taken_back_and_said_to_be() -> None:
    rig = Rig(max_error_ratio=0.2)
    rig.error = Unavailable("gone")
    with structlog.testing.capture_logs() as logged:
        assert await rig.ask(times=5) == ["", "", "", "1", "1"]  # three of ten are more than a fifth
    reason = "3 of 3 requests failed"
    assert [(event["event"], event["reason"]) for event in logged] == [("canary_rolled_back", reason)]
    assert rig.metric("gateway_canary_rollbacks_total") == 1.0
    assert rig.metric("gateway_canary_weight_ratio") == 0.0
    assert rig.metric("gateway_canary_requests_total", target="canary", outcome="failed") == 3.0
    assert rig.metric("gateway_canary_requests_total", target="stable", outcome="ok") == 2.0
    assert rig.canary.rolled_back == reason


async def test_it_stays_at_nothing_until_somebody_sets_a_weight_and_is_then_judged_anew() -> None:
    rig = Rig(max_error_ratio=0.2)
    rig.error = DeadlineExceeded("late")
    await rig.ask(times=3)
    rig.error = None
    rig.clock.now += 1e6
    assert await rig.ask() == ["1"]
    rig.rollouts.set_weight("adder", "", 1.0)
    assert await rig.ask(times=30) == ["2"] * 30
    assert rig.canary.rolled_back == ""


@pytest.mark.parametrize(
    "error", [RejectedByBackend("bad"), QuotaExceeded("much"), NotFound("none"), Overloaded("shed")]
)
async def test_what_is_not_the_canarys_fault_is_not_held_against_it(error: Exception) -> None:
    rig = Rig(max_error_ratio=0.0)
    rig.error = error
    await rig.ask(times=20)
    assert rig.weight == 1.0
    assert rig.metric("gateway_canary_requests_total", target="canary", outcome="failed") == 0.0


async def test_a_canary_slower_than_the_stable_side_by_more_than_the_bound_is_taken_back() -> None:
    rig = Rig(weight=0.5, max_p99_ratio=2.0)
    rig.seconds["2"] = 0.15
    await rig.ask(times=100)
    assert rig.weight == 0.5
    rig.seconds["2"] = 0.5
    await rig.ask(times=100)
    assert rig.weight == 0.0
    assert "times the stable" in rig.canary.rolled_back


async def test_a_hit_is_no_fast_answer_of_the_canary() -> None:
    rig = Rig(max_p99_seconds=1.0)
    rig.seconds["2"] = 2.0
    for _ in range(200):
        await rig.infer(a_request())
    assert rig.canary.status()["canary"]["requests"] == 1
    await rig.ask(times=20)
    assert rig.weight == 0.0


async def test_a_caller_that_leaves_says_nothing_of_the_canary() -> None:
    engine = FakeInfer()
    engine.is_open.clear()
    rig = Rig(engine)
    task = asyncio.create_task(rig.infer(a_request()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert engine.cancelled == 1
    assert rig.canary.status()["canary"]["requests"] == 0


def test_a_weight_is_for_a_model_with_a_canary_and_from_0_to_1() -> None:
    rollouts = Rig().rollouts
    with pytest.raises(NotFound, match=r"model 'other' has no canary.*adder"):
        rollouts.set_weight("other", "", 0.5)
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidRequest, match="from 0 to 1"):
            rollouts.set_weight("adder", "", weight)


async def test_a_label_that_is_moved_or_made_answers_as_its_version_at_once() -> None:
    rig = Rig(labels={"next": "2"})
    assert await rig.ask(label="next") == ["2"]
    rig.rollouts.set_label("adder", "stable", "2")
    rig.rollouts.set_label("adder", "old", "1")
    assert [(await rig.ask(label=label))[0] for label in ("stable", "old")] == ["2", "1"]
    assert rig.rollouts.status()["labels"] == {"adder": {"stable": "2", "next": "2", "old": "1"}}


def test_a_label_cannot_be_moved_to_what_there_is_not() -> None:
    rollouts = Rig().rollouts
    with pytest.raises(VersionNotFound):
        rollouts.set_label("adder", "stable", "9")
    with pytest.raises(ModelNotFound):
        rollouts.set_label("nobody", "stable", "1")
    with pytest.raises(InvalidRequest):
        rollouts.set_label("adder", "stable", "")


def test_a_label_cannot_be_moved_to_what_no_pool_serves() -> None:
    rig = Rig()
    rig.serves = False
    with pytest.raises(InvalidRequest, match="no pool"):
        rig.rollouts.set_label("adder", "stable", "2")
    assert rig.rollouts.status()["labels"] == {"adder": {"stable": "1"}}


def test_the_weights_of_a_configuration_before_are_not_shown_any_more() -> None:
    rig = Rig(weight=0.5)
    rig.metrics.canary_weight.labels("gone", "").set(1.0)
    rig.rollouts.publish()
    assert rig.metric("gateway_canary_weight_ratio") == 0.5
    assert (
        rig.metrics.registry.get_sample_value("gateway_canary_weight_ratio", {"model": "gone", "label": ""})
        is None
    )
