"""A changed configuration takes over in one step, or changes nothing and says why."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import pytest_asyncio
import yaml
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data
from structlog.testing import capture_logs

from gateway import reload, server
from gateway.app import Gateway, build
from gateway.inference import InferRequest, InferResponse, PoolKey, Tensor
from gateway.loading import load_settings
from gateway.reload import Reloads
from gateway.stages.measured import Measurement
from services.launch import free_port
from tests.fakes import a_version

SOON = 10.0
CONTRACT = {
    "name": "scale",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [2]}],
    "max_batch_size": 8,
    "cache": {"enabled": False},
}


def write_network(file: Path, factor: float, weights: str = "") -> None:
    """y = factor * x; the factor lies in a file of its own if `weights` names one."""
    by = helper.make_tensor("by", TensorProto.FLOAT, [1], np.float32(factor).tobytes(), raw=True)
    if weights:
        set_external_data(by, weights)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "by"], ["y"])], "scale", [x], [y], [by])
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)


def replace_weights(file: Path, factor: float) -> None:
    """Put another file with weights in place of this one."""
    new = file.with_suffix(".new")
    new.write_bytes(np.float32(factor).tobytes())
    new.replace(file)


class Rig:
    """A gateway with one model on the embedded engine: version v multiplies by v."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "inferway.yaml"
        self.versions("1")
        self.settings()
        self.gateway = build(load_settings(self.path, {}), folder)
        self.reloads = Reloads(self.gateway, self.path)

    def versions(self, *versions: str, default: str = "1", built: bool = True) -> None:
        content = {v: a_version("fp32", sha256=v * 64) for v in versions}
        (self.folder / "scale").mkdir(exist_ok=True)
        text = yaml.safe_dump({**CONTRACT, "default_version": default, "versions": content})
        (self.folder / "scale" / "model.yaml").write_text(text)
        for version in versions if built else ():
            file = self.folder / "onnx" / "scale" / version / "model.onnx"
            if not file.exists():
                write_network(file, float(version))

    def settings(self, **changes: Any) -> None:
        endpoints = {"embedded": {"backend": "onnxruntime", "repository": "onnx"}}
        pools = [{"model": "scale", "endpoints": ["embedded"]}]
        whole = {"models": ["scale"], "endpoints": endpoints, "pools": pools, **changes}
        self.path.write_text(yaml.safe_dump(whole))

    async def answer(self) -> tuple[str, float]:
        """The version that answers, and what it makes of 1."""
        response = await ask(self.gateway)
        return response.version, float(response.outputs[0].numpy()[0, 0])

    def limit(self, version: str) -> float | None:
        """Of admission, as the metrics show it."""
        labels = {"model": "scale", "version": version, "variant": "fp32"}
        return self.metric("admission_limit_requests", **labels)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.gateway.metrics.registry.get_sample_value(f"gateway_{name}", labels)

    def available(self, version: str) -> float | None:
        labels = {"model": "scale", "variant": "fp32", "backend": "onnxruntime", "endpoint": "embedded"}
        return self.metric("endpoint_available_ratio", version=version, **labels)


async def ask(gateway: Gateway) -> InferResponse:
    inputs = (Tensor.of("x", "FP32", np.ones((1, 2), np.float32)),)
    edge = gateway.edge
    with edge.measured.start("oip_http"):
        return await edge.infer(InferRequest("scale", inputs, edge.clock() + SOON))


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    async with rig.gateway:
        yield rig


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)


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


async def test_weights_beside_the_file_are_part_of_it(rig: Rig) -> None:
    file = rig.folder / "onnx" / "scale" / "1" / "model.onnx"
    contract = rig.folder / "scale" / "model.yaml"
    contract.write_text(contract.read_text().replace("enabled: false", "enabled: true"))
    write_network(file, 5.0, weights="by.bin")
    assert await rig.reloads.reload() == "ok"
    assert [(await ask(rig.gateway)).cache for _ in range(2)] == ["miss", "memory"]
    assert await rig.answer() == ("1", 5.0)
    assert not rig.reloads._watch.changed()
    replace_weights(file.with_name("by.bin"), 6.0)
    assert rig.reloads._watch.changed()
    assert await rig.reloads.reload() == "ok"
    assert await rig.answer() == ("1", 6.0)
    replace_weights(file.with_name("by.bin"), 5.0)
    assert await rig.reloads.reload() == "ok"
    again = await ask(rig.gateway)
    assert (again.cache, again.outputs[0].numpy()[0, 0]) == ("memory", 5.0)  # the first weights again


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


async def test_a_change_of_a_file_is_seen_and_a_signal_is_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "WATCH_SECONDS", 0.02)
    rig = Rig(tmp_path)
    ports = {name: free_port() for name in ("http_port", "grpc_port", "admin_port")}
    settings = rig.gateway.front.settings.server.model_copy(update=ports)
    serving = asyncio.create_task(server.serve(rig.gateway, settings, rig.reloads))
    await until(lambda: rig.gateway.serving.is_ready("scale", "1"))
    rig.versions("1", "2", default="2")
    await until(lambda: rig.gateway.edge.catalog.version("scale") == "2")
    first = rig.gateway.front
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: rig.gateway.front is not first)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, SOON)


async def test_without_the_watch_a_change_of_a_file_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "WATCH_SECONDS", 0.01)
    rig = Rig(tmp_path)
    rig.settings(reload={"watch": False})
    async with rig.gateway:
        assert await rig.reloads.reload() == "ok"
        running = asyncio.create_task(rig.reloads.run())
        rig.versions("1", "2", default="2")
        await asyncio.sleep(0.2)
        assert rig.gateway.edge.catalog.version("scale") == "1"
        rig.reloads.ask()
        await until(lambda: rig.gateway.edge.catalog.version("scale") == "2")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
