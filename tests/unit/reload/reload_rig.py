"""A gateway over one model whose configuration and files change."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data

from gateway.app import Gateway, build
from gateway.inference import InferRequest, InferResponse, Tensor
from gateway.loading import load_settings
from gateway.reload import Reloads
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


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
