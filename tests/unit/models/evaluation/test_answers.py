import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, save

from models.evaluation import answers, machine, subject
from models.evaluation.subject import Subject
from models.samples import Samples

TEXTS = Samples([b"abc", b"a", b"abcdef", b"ab"], np.arange(4))


def to_inputs(payload: bytes) -> dict[str, NDArray[np.int64]]:
    return {"tokens": np.frombuffer(payload, np.uint8).astype(np.int64)}


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Subject:
    """A model of texts, whose items differ in length."""
    monkeypatch.setattr(subject, "import_module", lambda _: SimpleNamespace(to_inputs=to_inputs))
    inputs = [{"name": "tokens", "datatype": "INT64", "shape": [-1], "padded": {"maximum": 9}}]
    return Subject("texts", Path(), "1", {"inputs": inputs}, {})


def test_a_padded_axis_gets_the_length_of_the_longest() -> None:
    items = [{"tokens": np.array([1, 2])}, {"tokens": np.array([3, 4, 5])}]
    batch = answers.stack(items, {"tokens": {"axis": 0, "value": 7}})
    assert batch["tokens"].tolist() == [[1, 2, 7], [3, 4, 5]]


def test_answers_come_back_in_the_order_of_the_samples(texts: Subject) -> None:
    seen: list[int] = []
    shapes: list[Any] = []

    def answer(inputs: answers.Inputs) -> NDArray[np.float32]:
        shapes.append(inputs["tokens"].shape)
        return np.asarray((inputs["tokens"] > 0).sum(1, keepdims=True), np.float32)

    found = answers.collect(texts, TEXTS, {"one": answer}, batch=2, advance=seen.append)
    assert found["one"].ravel().tolist() == [3, 1, 6, 2]
    assert shapes == [(2, 2), (2, 6)]  # like lengths together, so that little is padding
    assert seen == [2, 2]


def test_the_digest_tells_payloads_and_labels_apart() -> None:
    parted = Samples([b"ab", b"c"], np.array([0, 1]))
    assert answers.digest(parted) == answers.digest(Samples([b"ab", b"c"], np.array([0, 1])))
    others = [Samples([b"a", b"bc"], np.array([0, 1])), Samples([b"ab", b"c"], np.array([1, 0]))]
    assert len({answers.digest(samples) for samples in (parted, *others)}) == 3


def test_a_session_answers_with_the_first_output(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("y", "z")]
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["z"])]
    graph = helper.make_graph(nodes, "g", [x], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, tmp_path / "model.onnx")
    answer = answers.session(tmp_path / "model.onnx", threads=1)
    assert answer({"x": np.array([[1, -2]], np.float32)}).tolist() == [[-1, 2]]


def test_a_table_has_aligned_columns() -> None:
    assert list(answers.lines([["a", "b"], ["long", "c"]])) == ["a     b", "long  c"]


def test_what_a_measurement_ran_on_can_be_recorded() -> None:
    assert json.loads(json.dumps({"machine": machine.describe(), "packages": machine.packages()}))
