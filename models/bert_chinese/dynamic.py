"""Why int8 is static here: the same network quantized dynamically, side by side.

    .venvs/models/bin/python -m models.bert_chinese.dynamic

Dynamic quantization (ONNX Runtime's `quantize_dynamic`) takes an activation's range from each batch as it
comes. Measured are, on the validation split: accuracy, and how far a text's probability moves between being
asked alone and standing in a batch beside extreme neighbours, padded alike both times. A variant may be
published only if that is at most 1e-3. Writes versions/1/dynamic.json; needs `make models`.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.bert_chinese.sizes import PAD
from models.bert_chinese.train import encode
from models.evaluation.answers import Answer, session
from models.processes import ROOT
from models.training import reviews

OUT = Path(__file__).parent / "versions" / "1" / "dynamic.json"
BUILT = ROOT / "build" / "models" / "onnx"
LONGEST = 128
TEXTS = 64
"""Of the validation split, whose answers alone and beside neighbours are compared."""
RARE = 30
"""Extreme neighbours: texts of one token each, drawn from the whole vocabulary with this seed."""


def rows(tokens: NDArray[np.int64] | list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Texts as one batch of the longest length there is, int64 [N, LONGEST]."""
    batch = np.full((len(tokens), LONGEST), PAD, np.int64)
    for row, ids in zip(batch, tokens, strict=True):
        row[: len(ids)] = ids
    return batch


def accuracy(answer: Answer, tokens: list[NDArray[np.int64]], labels: NDArray[np.int64]) -> float:
    """The share of texts whose label is right, each asked alone."""
    found = [answer({"tokens": ids[None]})[0].argmax() for ids in tokens]
    return float((np.array(found) == labels).mean())


def moved(answer: Answer, texts: NDArray[np.int64], neighbours: NDArray[np.int64]) -> float:
    """The most that a probability of any text differs between alone and beside the neighbours."""
    differences = [
        np.abs(
            answer({"tokens": np.concatenate([text[None], neighbours])})[0]
            - answer({"tokens": text[None]})[0]
        )
        for text in texts
    ]
    return float(np.max(differences))


def main() -> None:
    """Measure both forms of int8 and fp32, print and write."""
    data = reviews.load()
    tokens, labels = encode(data.validation.texts), data.validation.labels
    rng = np.random.default_rng(RARE)
    neighbours = np.repeat(rng.integers(PAD + 1, 21_128, (7, 1)), LONGEST, 1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        dynamic = Path(folder) / "dynamic.onnx"
        quantize_dynamic(
            BUILT / "bert_chinese" / "1" / "model.onnx", dynamic, per_channel=True, reduce_range=True,
            weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
        files = {
            "fp32": BUILT / "bert_chinese" / "1" / "model.onnx",
            "int8, static (published)": BUILT / "bert_chinese-int8" / "1" / "model.onnx",
            "int8, dynamic": dynamic,
        }
        for name, path in files.items():
            answer = session(path, threads=1)
            found[name] = {
                "accuracy": round(accuracy(answer, tokens, labels), 4),
                "moved_by_neighbours": moved(answer, rows(tokens[:TEXTS]), neighbours),
                "megabytes": round(path.stat().st_size / 1e6, 2),
            }
            print(f"{name}: {found[name]}", flush=True)
    OUT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
