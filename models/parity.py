"""Asks a form for the fixed examples, and compares its answers with those of ONNX.

    python -m models.parity FORM FILE --inputs EXAMPLES.npz --output NAME --out ANSWERS.npy

runs in the environment of the server that will load the form (of ONNX: .venvs/models), so that what is
compared is what will be served. EXAMPLES.npz is written by models/examples.py; the answers are the model's
first output.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.gate import Refused

if TYPE_CHECKING:
    from services.tfserving.signatures import Model

Inputs = Mapping[str, NDArray[Any]]
Answer = Callable[[Inputs], NDArray[np.float32]]
"""A batch's inputs, by name and in the contract's order, to its answers, float32 [N, ...]."""
ROWS = "rows"
LARGEST_DIFFERENCE: Mapping[bool, float] = {True: 1e-4, False: 1e-3}
"""Of fp32, and of another variant; absolute, and relative for numbers beyond 1."""
LEAST_AGREEMENT = 0.999
"""A variant that differs by more may still be served beside itself if it gives the same label this often."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How equal two forms of one variant answer.

    Attributes:
        examples: how many were compared.
        largest_difference: absolute, relative for numbers beyond 1.
        label_agreement: the share of equal labels; 1 for a regression, which has none.
    """

    examples: int
    largest_difference: float
    label_agreement: float


def compare(answers: NDArray[np.float32], reference: NDArray[np.float32]) -> Parity:
    """Two answers to the same examples, float32 [N, C].

    Raises:
        Refused: they differ in shape, or are no numbers.
    """
    if not np.isfinite(answers).all():
        raise Refused("it answers what is no number")
    if answers.shape != reference.shape:
        raise Refused(f"not what ONNX answers: shape {list(answers.shape)}, not {list(reference.shape)}")
    differences = np.abs(answers.astype(np.float64) - reference) / np.maximum(1.0, np.abs(reference))
    same = answers.argmax(1) == reference.argmax(1)
    return Parity(len(answers), float(differences.max()), float(same.mean()))


def check(parity: Parity, *, is_fp32: bool, has_labels: bool) -> dict[str, float]:
    """See that a form may be served in one pool with ONNX; what was compared, for the manifest.

    Raises:
        Refused: it may not.
    """
    most = LARGEST_DIFFERENCE[is_fp32]
    is_equal = parity.largest_difference <= most
    agrees = has_labels and not is_fp32 and parity.label_agreement >= LEAST_AGREEMENT
    if not is_equal and not agrees:
        raise Refused(
            f"not what ONNX answers to {parity.examples} examples: differs by up to "
            f"{parity.largest_difference:.2g} (at most {most:g}), same label on {parity.label_agreement:.2%}"
        )
    return asdict(parity)


def ask(answer: Answer, examples: Path) -> NDArray[np.float32]:
    """The answers to all examples, float32 [N, ...] in the order of examples.zip."""
    found: list[NDArray[np.float32]] = []
    rows: list[NDArray[np.int64]] = []
    with np.load(examples) as stored:
        for batch in dict.fromkeys(name.partition("/")[0] for name in stored.files):
            names = [name for name in stored.files if name.startswith(f"{batch}/")]
            inputs = {name.partition("/")[2]: stored[name] for name in names}
            rows.append(inputs.pop(ROWS))
            found.append(answer(inputs))
    order = np.argsort(np.concatenate(rows))
    answers: NDArray[np.float32] = np.concatenate(found)[order]
    return answers


def onnx(file: Path, output: str) -> Answer:
    """An ONNX file, run by ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # models.build runs one program a core
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda inputs: np.asarray(session.run([output], dict(inputs))[0])


def onnx_tensorrt(file: Path, output: str) -> Answer:
    """TensorRT's int8 ONNX file, computed step by step as its graph says.

    Fused, its weights of 8 bits would overflow the int8 kernels of a CPU without VNNI, as no GPU does.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda inputs: np.asarray(session.run([output], dict(inputs))[0])


def torchscript(file: Path, output: str) -> Answer:  # noqa: ARG001 - TorchScript's outputs have no names
    """A TorchScript file, run as TorchServe's handler does."""
    import torch

    module = torch.jit.load(str(file)).eval()

    def answer(inputs: Inputs) -> NDArray[np.float32]:
        with torch.inference_mode():
            result = module(*(torch.tensor(value) for value in inputs.values()))
        return np.asarray(result[0] if isinstance(result, (tuple, list)) else result)

    return answer


def savedmodel(folder: Path, output: str) -> Answer:
    """A SavedModel folder, run as the stand-in for TF Serving does."""
    from services.tfserving.saved_model import SavedModel

    return _served(SavedModel(folder, intra_op_threads=1, inter_op_threads=1), output)


def litert(folder: Path, output: str) -> Answer:
    """A folder with model.tflite, run as the stand-in for TF Serving does."""
    from services.tfserving.lite_model import LiteModel

    return _served(LiteModel(folder), output)


def _served(model: "Model", output: str) -> Answer:
    import tensorflow as tf

    def answer(inputs: Inputs) -> NDArray[np.float32]:
        sent = {name: tf.make_tensor_proto(value) for name, value in inputs.items()}
        return model.predict("serving_default", sent, [output])[output]

    return answer


FORMS: Mapping[str, Callable[[Path, str], Answer]] = {
    "onnx": onnx,
    "onnx_tensorrt": onnx_tensorrt,
    "torchscript": torchscript,
    "savedmodel": savedmodel,
    "litert": litert,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Ask a form for the examples and write down what it answers."""
    parser = argparse.ArgumentParser(prog="python -m models.parity", description=main.__doc__)
    parser.add_argument("form", choices=FORMS)
    parser.add_argument("file", type=Path, help="the form")
    parser.add_argument("--inputs", type=Path, required=True, help="the examples")
    parser.add_argument("--output", required=True, help="the output's name")
    parser.add_argument("--out", type=Path, required=True, help="the answers, .npy")
    options = parser.parse_args(argv)
    np.save(options.out, ask(FORMS[options.form](options.file, options.output), options.inputs))


if __name__ == "__main__":
    main()
