"""The text of Triton's config.pbtxt for one variant of a model, from the model's contract."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

PLATFORMS: Mapping[str, str] = {
    "python": 'backend: "python"',
    "onnxruntime": 'backend: "onnxruntime"\nplatform: "onnxruntime_onnx"',
    "tensorrt_plan": 'backend: "tensorrt"\nplatform: "tensorrt_plan"',
}
WARM_UP_SIZE = 8
"""Of a padded axis in the warm-up, where its maximum allows."""


def config(contract: Mapping[str, Any], name: str, platform: str) -> str:
    """The text of config.pbtxt.

    All versions are served (Triton's own default is the latest alone). Batching waits for nothing: what came
    while the instance was busy is its next batch, as far as the shapes are equal. The warm-up runs before the
    model is called ready.

    Args:
        contract: the contents of model.yaml.
        name: under which Triton holds the variant.
        platform: a key of `PLATFORMS`.
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


def label_file(spec: Mapping[str, Any]) -> str:
    """The name of the file that holds an output's labels."""
    return f"{spec['name']}_labels.txt"


def padded_axes(contract: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """By input: its padded axis, counted without the batch axis, and the largest size of it."""
    return {
        spec["name"]: (spec["padded"].get("axis", 0), spec["padded"]["maximum"])
        for spec in contract["inputs"]
        if spec.get("padded")
    }


def _type(spec: Mapping[str, Any]) -> str:
    """OIP's datatype in Triton's words."""
    return "TYPE_STRING" if spec["datatype"] == "BYTES" else f"TYPE_{spec['datatype']}"


def _tensor(kind: str, spec: Mapping[str, Any]) -> str:
    labels = f" label_filename: {json.dumps(label_file(spec))}" if spec.get("labels") else ""
    return (
        f"{kind} {{ name: {json.dumps(spec['name'])} data_type: {_type(spec)} "
        f"dims: {list(spec['shape'])}{labels} }}"
    )


def _warm_up(contract: Mapping[str, Any], batch: int) -> str:
    """Zeros at batch 1 and, where there is a batch axis, at the largest; an open dimension is 1 or a few."""
    padded = padded_axes(contract)

    def inputs() -> Iterator[str]:
        for spec in contract["inputs"]:
            shape = [max(size, 1) for size in spec["shape"]]
            if spec["name"] in padded:
                axis, maximum = padded[spec["name"]]
                shape[axis] = min(WARM_UP_SIZE, maximum)
            yield (
                f"inputs {{ key: {json.dumps(spec['name'])} "
                f"value {{ data_type: {_type(spec)} dims: {shape} zero_data: true }} }}"
            )

    sizes = dict.fromkeys((1, batch)) if batch else {0: None}
    return "\n".join(
        f'model_warmup {{ name: "zeros_{size}" batch_size: {size} {" ".join(inputs())} }}' for size in sizes
    )
