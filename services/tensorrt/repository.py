"""Renders Triton's model repository from a model's contract: `python -m services.tensorrt.repository --help`.

One template serves every place: platform `python` (any machine; `onnx_model.py` runs ONNX Runtime),
`onnxruntime` (NVIDIA's image without a GPU), `tensorrt_plan` (NVIDIA's image on a GPU; the plan is built on
the spot, since it fits only the GPU and the TensorRT that built it). It writes:

    OUT/cnn_mnist/                 one folder a variant: `cnn_mnist` for fp32, else `cnn_mnist-<variant>`
        config.pbtxt
        probabilities_labels.txt   for the classification extension, where the contract has labels
        1/                         one folder a version
            model.onnx, model.py   (model.onnx alone, or model.plan)

It needs only PyYAML, so that it runs in NVIDIA's image as it is.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from services.tensorrt import plan

PLATFORMS: Mapping[str, str] = {
    "python": 'backend: "python"',
    "onnxruntime": 'backend: "onnxruntime"\nplatform: "onnxruntime_onnx"',
    "tensorrt_plan": 'backend: "tensorrt"\nplatform: "tensorrt_plan"',
}
DEFAULT_VARIANT = "fp32"


class RepositoryError(ValueError):
    """The contract cannot be rendered; the text is one line for a person."""


def render(model: Path, platform: str, out: Path) -> list[str]:
    """Write every variant of one model under `out`; what lay there under the same names is replaced.

    Args:
        model: the model's folder, with its `model.yaml`.
        platform: a key of `PLATFORMS`.
        out: the repository.

    Returns:
        The names that Triton will know, for `--load-model`.

    Raises:
        RepositoryError: a file is missing, or Triton cannot hold what the contract says.
        plan.PlanError: TensorRT refused the network (platform `tensorrt_plan`).
    """
    path = model / "model.yaml"
    if not path.is_file():
        raise RepositoryError(f"{path} does not exist")
    contract = yaml.safe_load(path.read_text())
    names = []
    for variant, versions in _variants(contract).items():
        name = engine_model_name(contract["name"], variant)
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "config.pbtxt").write_text(config(contract, name, platform))
        for spec in contract["outputs"]:
            if labels := spec.get("labels"):
                (folder / _label_file(spec)).write_text("".join(f"{label}\n" for label in labels))
        for version, onnx in versions.items():
            _write_version(model / onnx, folder / version, platform, contract["max_batch_size"])
        names.append(name)
    return names


def engine_model_name(model: str, variant: str) -> str:
    """The name under which Triton holds one variant: the gateway's rule (a test holds the two equal)."""
    return model if variant == DEFAULT_VARIANT else f"{model}-{variant}"


def config(contract: Mapping[str, Any], name: str, platform: str) -> str:
    """The text of config.pbtxt.

    All versions are served (Triton's own default is the latest alone). Batching waits for nothing: what came
    while the instance was busy is its next batch. The warm-up runs before the model is called ready.
    """
    batch = int(contract["max_batch_size"])
    parts = [
        f"name: {json.dumps(name)}",
        PLATFORMS[platform],
        f"max_batch_size: {batch}",
        "version_policy { all { } }",
        *(_tensor("input", spec) for spec in contract["inputs"]),
        *(_tensor("output", spec) for spec in contract["outputs"]),
        f"instance_group {{ count: 1 kind: {'KIND_GPU' if platform == 'tensorrt_plan' else 'KIND_CPU'} }}",
        _warm_up(contract, batch),
    ]
    if batch:
        parts.append("dynamic_batching { }")
    if platform != "tensorrt_plan":
        parts.append('parameters { key: "intra_op_thread_count" value { string_value: "1" } }')
    return "\n".join(parts) + "\n"


def _variants(contract: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The ONNX file by variant and version."""
    variants: dict[str, dict[str, str]] = {}
    for version, spec in contract["versions"].items():
        for variant, onnx in spec.get("onnx", {}).items():
            variants.setdefault(variant, {})[str(version)] = onnx
    if not variants:
        raise RepositoryError(f"model '{contract['name']}' has no version with an ONNX file")
    return variants


def _write_version(onnx: Path, folder: Path, platform: str, max_batch_size: int) -> None:
    if not onnx.is_file():
        raise RepositoryError(f"{onnx} does not exist")
    folder.mkdir()
    if platform == "tensorrt_plan":
        plan.build(onnx, folder / "model.plan", max_batch_size=max_batch_size)
        return
    shutil.copyfile(onnx, folder / "model.onnx")
    if platform == "python":
        shutil.copyfile(Path(__file__).with_name("onnx_model.py"), folder / "model.py")


def _type(spec: Mapping[str, Any]) -> str:
    """OIP's datatype in Triton's words."""
    return "TYPE_STRING" if spec["datatype"] == "BYTES" else f"TYPE_{spec['datatype']}"


def _tensor(kind: str, spec: Mapping[str, Any]) -> str:
    if not spec["shape"]:
        raise RepositoryError(
            f"tensor '{spec['name']}': Triton needs at least one dimension beside the batch"
        )
    labels = f" label_filename: {json.dumps(_label_file(spec))}" if spec.get("labels") else ""
    return (
        f"{kind} {{ name: {json.dumps(spec['name'])} data_type: {_type(spec)} "
        f"dims: {list(spec['shape'])}{labels} }}"
    )


def _label_file(spec: Mapping[str, Any]) -> str:
    return f"{spec['name']}_labels.txt"


def _warm_up(contract: Mapping[str, Any], batch: int) -> str:
    """Zeros at batch 1 and, where there is a batch axis, at the largest; an open dimension is 1."""

    def inputs() -> Iterator[str]:
        for spec in contract["inputs"]:
            dims = [max(size, 1) for size in spec["shape"]]
            yield (
                f"inputs {{ key: {json.dumps(spec['name'])} "
                f"value {{ data_type: {_type(spec)} dims: {dims} zero_data: true }} }}"
            )

    sizes = dict.fromkeys((1, batch)) if batch else {0: None}
    return "\n".join(
        f'model_warmup {{ name: "zeros_{size}" batch_size: {size} {" ".join(inputs())} }}' for size in sizes
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Render; print the folders written. Exit code 1 and one line on standard error when that fails."""
    parser = argparse.ArgumentParser(prog="python -m services.tensorrt.repository", description=main.__doc__)
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="model folders")
    parser.add_argument("--platform", choices=PLATFORMS, default="python", help="who runs the model")
    parser.add_argument("--out", type=Path, required=True, help="the repository's folder")
    options = parser.parse_args(argv)
    try:
        for model in options.models:
            for name in render(model, options.platform, options.out):
                sys.stdout.write(f"{options.out / name}\n")
    except (RepositoryError, plan.PlanError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
