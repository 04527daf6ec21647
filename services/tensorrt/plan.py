"""Builds a TensorRT plan from an ONNX file: `python -m services.tensorrt.plan --help`.

The precision is the network's own ("strongly typed"): an fp32 file gives an fp32 plan, an fp16 file an fp16
one, and a file with QuantizeLinear/DequantizeLinear pairs an int8 one. A plan fits only the TensorRT release
and the kind of GPU that built it, so this runs on the target, in the image that will serve it.

The same code drives TensorRT and TensorRT-RTX, whose builders have one interface.
API: https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/
"""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MODULES = ("tensorrt", "tensorrt_bindings", "tensorrt_rtx_bindings")
"""The full package, its bindings alone (which use the libraries of the image), and TensorRT-RTX."""

TYPICAL = 4
"""A padded axis is tuned for its maximum divided by this."""


class PlanError(RuntimeError):
    """TensorRT is not there or refused the network; the text is one line for a person."""


def build(
    onnx: Path,
    plan: Path,
    *,
    max_batch_size: int,
    padded: Mapping[str, tuple[int, int]] | None = None,
    module: str | None = None,
) -> None:
    """Build `plan` from `onnx`, with one profile: batch 1 to `max_batch_size`, tuned for the largest.

    A padded axis goes from 1 to its maximum; it is tuned for a quarter of that, since most items are short.

    Args:
        onnx: the network; its first axis is the batch where `max_batch_size` is not 0, no other one is free
            but the padded ones.
        plan: the file to write.
        max_batch_size: the largest batch; 0 for a network without a batch axis.
        padded: by input, the number of its padded axis (without the batch axis) and the largest size of it.
        module: one of `MODULES`; by default the first that is installed.

    Raises:
        PlanError: no TensorRT, or it cannot parse or build the network.
    """
    if not onnx.is_file():
        raise PlanError(f"{onnx} does not exist")
    trt = _load(module)
    logger = trt.Logger(trt.Logger.WARNING)
    builder = _builder(trt, logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        errors = "; ".join(str(parser.get_error(i)).strip() for i in range(parser.num_errors))
        raise PlanError(f"{onnx}: TensorRT cannot parse it: {' '.join(errors.split())}")
    settings = builder.create_builder_config()
    if max_batch_size or padded:
        settings.add_optimization_profile(_profile(builder, network, max_batch_size, padded or {}))
    serialized = builder.build_serialized_network(network, settings)
    if serialized is None:
        raise PlanError(f"{onnx}: TensorRT cannot build it (its log above says why)")
    plan.write_bytes(memoryview(serialized))


def _load(module: str | None) -> Any:
    for name in (module,) if module else MODULES:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            reason = error
    raise PlanError(f"no TensorRT in this Python: {reason}")


def _builder(trt: Any, logger: Any) -> Any:
    try:
        return trt.Builder(logger)
    except TypeError as error:  # how the bindings say that the library gave them none
        raise PlanError("TensorRT cannot start here: is there a GPU and its driver?") from error


def _strongly_typed(trt: Any) -> int:
    """The flag by which types come from the network; a release that knows no other way may lack it."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _profile(builder: Any, network: Any, max_batch_size: int, padded: Mapping[str, tuple[int, int]]) -> Any:
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        shape = tuple(tensor.shape)
        ranges = {0: (1, max_batch_size, max_batch_size)} if max_batch_size else {}
        if tensor.name in padded:
            axis, maximum = padded[tensor.name]
            ranges[axis + len(ranges)] = (1, max(1, maximum // TYPICAL), maximum)
        if [axis for axis, size in enumerate(shape) if size == -1] != sorted(ranges):
            raise PlanError(
                f"tensor '{tensor.name}': expected free axes {sorted(ranges)} and no other, "
                f"got shape {list(shape)}"
            )
        least, typical, most = (
            tuple(ranges[axis][which] if axis in ranges else size for axis, size in enumerate(shape))
            for which in range(3)
        )
        profile.set_shape(tensor.name, least, typical, most)
    return profile


def _padded(text: str) -> tuple[str, tuple[int, int]]:
    name, axis, maximum = text.rsplit(":", 2)
    return name, (int(axis), int(maximum))


def main(argv: Sequence[str] | None = None) -> int:
    """Build one plan. Exit code 1 and one line on standard error when that fails."""
    parser = argparse.ArgumentParser(prog="python -m services.tensorrt.plan", description=main.__doc__)
    parser.add_argument("--onnx", type=Path, required=True, help="the network")
    parser.add_argument("--out", type=Path, required=True, help="the plan to write")
    parser.add_argument(
        "--max-batch-size", type=int, default=64, help="largest batch; 0: no batch axis (default: 64)"
    )
    parser.add_argument(
        "--padded",
        type=_padded,
        action="append",
        default=[],
        metavar="NAME:AXIS:MAXIMUM",
        help="an input's padded axis, counted without the batch axis, and the largest size of it",
    )
    parser.add_argument("--module", choices=MODULES, help="default: the first that is installed")
    options = parser.parse_args(argv)
    try:
        build(
            options.onnx,
            options.out,
            max_batch_size=options.max_batch_size,
            padded=dict(options.padded),
            module=options.module,
        )
    except PlanError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
