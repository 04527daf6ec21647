"""A changed configuration takes over in one step, or changes nothing and says why."""

import asyncio
import shutil
import time
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from gateway.inference import InferRequest, PoolKey, Tensor
from gateway.stages.measured import Measurement
from tests.unit.reload.reload_rig import SOON, Rig, ask, until, write_network


async def test_a_new_default_version_answers_once_it_is_ready(rig: Rig) -> None:
    assert await rig.answer() == ("1", 1.0)
    rig.versions("1", "2", default="2")
    assert await rig.reloads.reload() == "ok"
    assert await rig.answer() == ("2", 2.0)
    assert (rig.available("1"), rig.available("2")) == (1, 1)


async def test_a_default_that_is_drained_does_not_stop_the_reload_that_ends_the_drain(rig: Rig) -> None:
    rig.versions("1", "2", default="2")
    assert await rig.reloads.reload() == "ok"
    (endpoint,) = rig.gateway.serving.pools[PoolKey("scale", "2", "fp32")].endpoints
    endpoint.is_draining = True
    rig.settings(reload={"ready_timeout_seconds": 0.2})
    assert await rig.reloads.reload() == "ok"
    assert await rig.answer() == ("2", 2.0)


async def test_what_was_learned_of_a_pool_outlives_the_configuration_that_learned_it(rig: Rig) -> None:
    key = PoolKey("scale", "1", "fp32")
    learned = rig.gateway.serving.learned
    for _ in range(100):
        learned.latencies[key].observe(0.02, time.monotonic())
    learned.gates[key].limit.refused(time.monotonic())
    (limit,) = (gate.limit.requests for gate in learned.gates.values())
    rig.versions("1", "2")
    assert await rig.reloads.reload() == "ok"
    now_learned = rig.gateway.serving.learned
    assert now_learned.gates[key].limit.requests == limit == 7
    assert now_learned.latencies[key].at(time.monotonic()) < 0.03
    rig.settings(admission={"max_limit_requests": 3})
    assert await rig.reloads.reload() == "ok"
    assert rig.limit("1") == rig.limit("2") == 3


async def test_a_new_version_begins_with_what_was_learned_of_the_one_before_and_learns_for_itself(
    rig: Rig,
) -> None:
    one, two = PoolKey("scale", "1", "fp32"), PoolKey("scale", "2", "fp32")
    before = rig.gateway.serving.learned
    for _ in range(100):
        before.latencies[one].observe(0.02, time.monotonic())
    before.gates[one].limit.answered(0.02, time.monotonic(), in_flight=8, was_alone=False)
    rig.versions("1", "2", default="2")
    assert await rig.reloads.reload() == "ok"
    after = rig.gateway.serving.learned
    assert after.gates[two].limit.requests == after.gates[one].limit.requests == 9
    assert after.latencies[two].at(time.monotonic()) < 0.03
    after.gates[two].limit.refused(time.monotonic() + 1)
    for _ in range(1000):
        after.latencies[two].observe(0.2, time.monotonic())
    assert after.gates[one].limit.requests == 9
    assert after.latencies[one].at(time.monotonic()) < 0.03


async def test_a_new_version_does_not_begin_with_a_limit_that_had_to_be_lowered(rig: Rig) -> None:
    one, two = PoolKey("scale", "1", "fp32"), PoolKey("scale", "2", "fp32")
    rig.gateway.serving.learned.gates[one].limit.refused(time.monotonic())
    rig.versions("1", "2", default="2")
    assert await rig.reloads.reload() == "ok"
    gates = rig.gateway.serving.learned.gates
    assert (gates[one].limit.requests, gates[two].limit.requests) == (7, 8)


async def test_other_rules_of_balancing_make_nothing_warm_up_that_answers(rig: Rig) -> None:
    key = PoolKey("scale", "1", "fp32")
    (before,) = rig.gateway.serving.pools[key].endpoints
    before.latency.observe(0.02, time.monotonic())
    rig.settings(balancing={"consecutive_failures": 7})
    assert (await rig.reloads.reload(), await rig.answer()) == ("ok", ("1", 1.0))
    (after,) = rig.gateway.serving.pools[key].endpoints
    assert after is not before
    assert after.latency.at(time.monotonic()) > 0.01  # who becomes ready has forgotten it


async def test_the_metrics_of_admission_are_those_of_the_configuration_that_serves(rig: Rig) -> None:
    assert (rig.limit("1"), rig.limit("2")) == (8, None)
    rig.versions("1", "2", default="2")
    (rig.folder / "onnx" / "scale" / "2" / "model.onnx").write_bytes(b"no network")
    rig.settings(reload={"ready_timeout_seconds": 0.2}, admission={"max_limit_requests": 3})
    assert await rig.reloads.reload() == "not_ready"
    assert (rig.limit("1"), rig.limit("2")) == (8, None)
    rig.versions("3", default="3")
    assert await rig.reloads.reload() == "ok"
    assert (rig.limit("1"), rig.limit("3")) == (None, 3)


async def test_a_version_that_is_never_ready_does_not_take_the_default_away(rig: Rig) -> None:
    rig.versions("1", "2", default="2")
    (rig.folder / "onnx" / "scale" / "2" / "model.onnx").write_bytes(b"no network")
    with capture_logs() as logs:
        assert await rig.reloads.reload() == "not_ready"  # long before `reload.ready_timeout_seconds`
    (refused,) = [line for line in logs if line["event"] == "reload_refused"]
    (problem,) = refused["problems"]
    assert problem.startswith("model 'scale': version 2 variant 'fp32': ")
    assert f"{rig.folder}/onnx/scale/2/model.onnx: ONNX Runtime cannot load it: " in problem
    assert "INVALID_PROTOBUF" in problem
    assert await rig.answer() == ("1", 1.0)
    assert (rig.metric("reload_ok_ratio"), rig.available("2")) == (0, None)


async def test_a_contract_that_the_file_does_not_fit_is_refused_with_each_difference(rig: Rig) -> None:
    contract = rig.folder / "scale" / "model.yaml"
    contract.write_text(contract.read_text().replace("datatype: FP32", "datatype: INT32"))
    assert await rig.reloads.reload() == "not_ready"
    assert await rig.answer() == ("1", 1.0)
    said = f"it is FP32 [-1, 2] here, and INT32 [-1, 2] (max_batch_size 8) in {contract}"
    assert rig.reloads._problem.count(said) == 2


@pytest.mark.parametrize(
    ("changes", "result", "said"),
    [
        ({"pool": []}, "invalid", "inferway.yaml:7: pool: unknown key; did you mean 'pools'?"),
        ({"models": ["nothing"]}, "invalid", "there is no such file"),
        ({"server": {"http_port": 1}}, "restart", "server.http_port: cannot change while the gateway runs"),
    ],
)
async def test_what_cannot_be_used_changes_nothing_and_says_why(
    rig: Rig, changes: dict[str, Any], result: str, said: str
) -> None:
    before = rig.gateway.front
    rig.settings(**changes)
    with capture_logs() as logs:
        assert await rig.reloads.reload() == result
    assert said in logs[0]["problems"][0]
    assert rig.gateway.front is before
    assert await rig.answer() == ("1", 1.0)
    assert (rig.metric("reloads_total", result=result), rig.metric("reload_ok_ratio")) == (1, 0)


async def test_a_version_without_its_file_is_refused(rig: Rig) -> None:
    rig.versions("1", "2", default="2", built=False)
    assert await rig.reloads.reload() == "invalid"
    assert await rig.answer() == ("1", 1.0)


async def test_what_stays_the_same_is_kept(rig: Rig) -> None:
    key = PoolKey("scale", "1", "fp32")
    (before,) = rig.gateway.serving.pools[key].endpoints
    before.is_draining = True  # an operator's word ends with the configuration
    rig.versions("1", "2")
    assert await rig.reloads.reload() == "ok"
    (after,) = rig.gateway.serving.pools[key].endpoints
    assert after is before
    assert not after.is_draining


async def test_a_file_that_is_written_anew_is_loaded_anew(rig: Rig) -> None:
    assert await rig.answer() == ("1", 1.0)
    write_network(rig.folder / "onnx" / "scale" / "1" / "model.onnx", 5.0)
    assert await rig.reloads.reload() == "ok"
    assert await rig.answer() == ("1", 5.0)


async def test_what_a_file_answered_is_not_given_for_the_one_written_over_it(rig: Rig) -> None:
    contract = rig.folder / "scale" / "model.yaml"
    contract.write_text(contract.read_text().replace("enabled: false", "enabled: true"))
    assert await rig.reloads.reload() == "ok"
    assert [(await ask(rig.gateway)).cache for _ in range(2)] == ["miss", "memory"]
    write_network(rig.folder / "onnx" / "scale" / "1" / "model.onnx", 5.0)
    assert await rig.reloads.reload() == "ok"
    assert await rig.answer() == ("1", 5.0)
    write_network(rig.folder / "onnx" / "scale" / "1" / "model.onnx", 1.0)
    assert await rig.reloads.reload() == "ok"
    again = await ask(rig.gateway)
    assert (again.cache, again.outputs[0].numpy()[0, 0]) == ("memory", 1.0)  # the first file's bytes again


async def test_a_request_under_way_ends_with_the_configuration_that_it_began_with(rig: Rig) -> None:
    old = rig.gateway.edge
    measurement: Measurement = old.measured.start("oip_http")
    with measurement:
        rig.versions("2", default="2")
        shutil.rmtree(rig.folder / "onnx" / "scale" / "1")
        assert await rig.reloads.reload() == "ok"
        assert await rig.answer() == ("2", 2.0)
        await asyncio.sleep(0.3)  # longer than the old one would wait without it
        assert rig.metric("in_flight_requests") == 1
        inputs = (Tensor.of("x", "FP32", np.ones((1, 2), np.float32)),)
        response = await old.infer(InferRequest("scale", inputs, old.clock() + SOON))
        assert (response.version, response.outputs[0].numpy()[0, 0]) == ("1", 1.0)
    await until(lambda: not rig.gateway._retiring)
    assert rig.available("1") is None


async def test_under_load_no_request_fails_and_every_answer_is_its_versions(rig: Rig) -> None:
    failed: list[object] = []
    answered: dict[str, int] = {}
    done = False

    async def load() -> None:
        while not done:
            try:
                version, value = await rig.answer()
            except Exception as error:  # noqa: BLE001 - it is what is counted
                failed.append(error)
                continue
            answered[version] = answered.get(version, 0) + 1
            if value != float(version):
                failed.append((version, value))

    loads = [asyncio.create_task(load()) for _ in range(8)]
    for versions, default in [(("1", "2"), "1"), (("1", "2"), "2"), (("2", "3"), "3"), (("1", "3"), "1")]:
        rig.versions(*versions, default=default)
        assert await rig.reloads.reload() == "ok"
        rig.path.write_text("pools: nothing\n")
        assert await rig.reloads.reload() == "invalid"
        rig.settings()
        await asyncio.sleep(0.15)
    done = True
    await asyncio.gather(*loads)
    assert failed == []
    assert set(answered) == {"1", "2", "3"}
