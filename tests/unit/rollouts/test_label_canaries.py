"""The canary of a label: drawn for who asks for the label, and over once the label is moved."""

import pytest
import structlog.testing

from gateway.errors import NotFound, Unavailable
from tests.fakes import a_request
from tests.unit.rollouts.rollouts_rig import Rig


async def test_a_labels_canary_is_drawn_for_who_asks_for_the_label_alone() -> None:
    rig = Rig(label="stable")
    assert await rig.ask(times=3, label="stable") == ["2"] * 3
    others = [await rig.ask(), await rig.ask(version="1"), await rig.ask(label="stable", variant="fp32")]
    assert others == [["1"]] * 3
    assert rig.metric("gateway_canary_requests_total", label="stable", target="canary", outcome="ok") == 3.0
    with pytest.raises(NotFound, match=r"model 'adder' has no canary.*label 'stable' of model 'adder'"):
        rig.rollouts.set_weight("adder", "", 0.5)


async def test_a_labels_canary_is_drawn_by_weight_keeps_callers_and_mixes_no_cache() -> None:
    rig = Rig(label="stable", weight=0.25, sticky="header")
    answered = await rig.ask(times=400, label="stable")
    assert answered.count("2") / 400 == pytest.approx(0.25, abs=0.06)
    rig.rollouts.set_weight("adder", "stable", 0.5)
    sides = [set(await rig.ask(times=4, label="stable", sticky=caller)) for caller in "abcdefghij"]
    assert {len(side) for side in sides} == {1}
    facts = []
    for weight in (0.0, 1.0, 0.0, 1.0):
        rig.rollouts.set_weight("adder", "stable", weight)
        answer = await rig.infer(a_request(label="stable"))
        facts.append((answer.version, answer.cache))
    assert facts == [("1", "miss"), ("2", "miss"), ("1", "memory"), ("2", "memory")]


async def test_a_labels_canary_that_fails_is_taken_back_and_the_label_stays_where_it_was() -> None:
    rig = Rig(label="stable", max_error_ratio=0.2)
    rig.error = Unavailable("gone")
    with structlog.testing.capture_logs() as logged:
        assert await rig.ask(times=5, label="stable") == ["", "", "", "1", "1"]
    assert [(event["event"], event["label"]) for event in logged] == [("canary_rolled_back", "stable")]
    assert rig.metric("gateway_canary_rollbacks_total", label="stable") == 1.0
    assert rig.rollouts.status()["labels"] == {"adder": {"stable": "1"}}


async def test_a_label_that_is_moved_stands_for_that_version_alone_and_its_canary_is_over() -> None:
    rig = Rig(label="stable", weight=0.5, max_error_ratio=0.0, min_requests=1)
    await rig.ask(times=20, label="stable")
    rig.rollouts.set_label("adder", "stable", "2")
    rig.error = Unavailable("gone")
    assert await rig.ask(times=5, label="stable") == [""] * 5
    assert (rig.weight, rig.canary.rolled_back) == (0.0, "")
    rig.error = None
    rig.rollouts.set_label("adder", "stable", "1")
    assert await rig.ask(times=20, label="stable") == ["1"] * 20
    assert rig.metric("gateway_canary_weight_ratio", label="stable") == 0.0
    rig.rollouts.set_weight("adder", "stable", 1.0)
    assert await rig.ask(label="stable") == ["2"]
