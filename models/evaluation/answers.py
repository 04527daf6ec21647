"""What several answerers (variants, engines) say to the same samples, asked batch by batch side by side."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.evaluation.subject import Subject
from models.samples import Samples

Inputs = Mapping[str, NDArray[Any]]
Answer = Callable[[Inputs], NDArray[np.float32]]
"""Inputs with a batch axis to the model's first output."""


def collect(
    subject: Subject,
    samples: Samples,
    answers: Mapping[str, Answer],
    *,
    batch: int,
    advance: Callable[[int], object],
) -> dict[str, NDArray[np.float32]]:
    """All answers, in the samples' order: float32 [N, ...] by answerer.

    Args:
        subject: the model, whose transform.py makes inputs of payloads.
        samples: what to ask.
        answers: whom to ask.
        batch: samples at a time.
        advance: told after each batch how many samples it had.
    """
    order = np.arange(len(samples))
    if subject.padded:  # like lengths together: what a batch is padded to is computed for every row
        order = np.argsort([len(payload) for payload in samples.payloads], kind="stable")
    found: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        items = [subject.transform.to_inputs(samples.payloads[row]) for row in rows]
        inputs = stack(items, subject.padded)
        for name, answer in answers.items():
            values = answer(inputs)
            found.setdefault(name, np.zeros((len(samples), *values.shape[1:]), np.float32))[rows] = values
        advance(len(rows))
    return found


def stack(items: Sequence[Inputs], padded: Mapping[str, Mapping[str, int]]) -> dict[str, NDArray[Any]]:
    """Items as one batch; a padded axis gets the length of the longest."""
    batch = {}
    for name in items[0]:
        values = [np.asarray(item[name]) for item in items]
        if rule := padded.get(name):
            axis = rule.get("axis", 0)
            longest = max(value.shape[axis] for value in values)
            values = [_padded(value, axis, longest, rule.get("value", 0)) for value in values]
        batch[name] = np.stack(values)
    return batch


def session(path: Path, *, threads: int) -> Answer:
    """An ONNX file on the CPU; `threads`: of one inference."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    running = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    first = running.get_outputs()[0].name

    def answer(inputs: Inputs) -> NDArray[np.float32]:
        return np.asarray(running.run([first], dict(inputs))[0], np.float32)

    return answer


def digest(samples: Samples) -> str:
    """sha256 over every payload and label, in order."""
    state = hashlib.sha256()
    for payload in samples.payloads:
        state.update(len(payload).to_bytes(8, "little") + payload)
    state.update(np.ascontiguousarray(samples.labels).tobytes())
    return state.hexdigest()


def _padded(value: NDArray[Any], axis: int, length: int, fill: int) -> NDArray[Any]:
    widths = [(0, length - size if i == axis else 0) for i, size in enumerate(value.shape)]
    return np.pad(value, widths, constant_values=fill)


def lines(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows of a table as text, columns aligned."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
