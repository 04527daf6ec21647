"""Static int8 quantization of an ONNX file, by ONNX Runtime.

Ranges of activations are fixed beforehand from samples, so that a row's answer never depends on its
neighbours; weights have one scale for each output channel (R. Krishnamoorthi, arXiv:1806.08342). The result
carries pairs of QuantizeLinear and DequantizeLinear (QDQ), which ONNX Runtime fuses into int8 kernels.
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

Sample = Mapping[str, NDArray[Any]]
"""One item: each input's tensor without the batch axis, as `transform.to_inputs` makes it."""


def static(
    fp32_onnx: Path,
    out: Path,
    samples: Iterable[Sample],
    *,
    tensorrt: bool = False,
    exclude: Sequence[str] = (),
    operators: Sequence[str] | None = None,
    float_outputs: Sequence[str] = (),
) -> None:
    """Write the int8 form of a network; inputs and outputs keep their names, shapes and datatypes.

    For CPUs activations are uint8 with a zero point, and weights have 7 bits (-64..64): a CPU with AVX2 and
    without VNNI adds pairs of uint8 x int8 products in 16 bits, which 8-bit weights would overflow, and the
    answers would differ between machines. TensorRT wants both symmetric, and has no such fault: 8 bits.

    Args:
        fp32_onnx: the network in float; its first axis is the batch.
        out: the file to write.
        samples: training items, 100 to 500 of them; their extremes become the ranges of the activations.
        tensorrt: write what TensorRT parses: symmetric, float biases, a pair of nodes for each use.
        exclude: names of nodes in `fp32_onnx` that stay in float.
        operators: the only ONNX operators that become int8 (all that ONNX Runtime can). A MatMul of two
            activations stays in float either way: attention's scores lose more than they gain.
        float_outputs: ONNX operators whose results stay in float, where 256 steps would make ties of them.

    Raises:
        ValueError: there are no samples.
    """
    extra: dict[str, Any] = {
        "MatMulConstBOnly": True,
        "OpTypesToExcludeOutputQuantization": list(float_outputs),
    }
    if tensorrt:
        extra |= {
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "DedicatedQDQPair": True,
        }
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        # shapes, and norms folded into convolutions; symbolic shapes are not needed, and would need sympy
        quant_pre_process(str(fp32_onnx), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            prepared,
            out,
            _Reader(samples),
            activation_type=QuantType.QInt8 if tensorrt else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=not tensorrt,
            nodes_to_exclude=list(exclude),
            op_types_to_quantize=operators and list(operators),
            extra_options=extra,
        )


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """The samples, as the calibration asks for them: a batch of one item at a time."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._rest: Iterator[Sample] = iter(samples)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next item, or None after the last."""
        item = next(self._rest, None)
        return None if item is None else {name: value[np.newaxis] for name, value in item.items()}
