"""Classification: as Triton 2.51 was seen to answer."""

import numpy as np
import pytest

from gateway.inference import Tensor, split_bytes
from gateway.protocols.oip_classification import classify
from tests.unit.protocols.oip_http_rig import Rig, split


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_classification_gives_the_best_labels_of_each_row(rig: Rig) -> None:
    body = {
        "inputs": [{"name": "image", "shape": [2, 2, 2], "datatype": "FP32", "data": [0] * 8}],
        "outputs": [{"name": "scores", "parameters": {"classification": 2}}],
    }
    output = rig.request("POST", "/v2/models/digits/infer", body).json()["outputs"][0]
    assert output == {
        "name": "scores", "datatype": "BYTES", "shape": [2, 2],
        "data": ["3.500000:1:one", "1.000000:2:two"] * 2,
    }  # fmt: skip


def test_classification_of_integers_without_labels_or_batch(rig: Rig) -> None:
    wanted = [{"name": "y", "parameters": {"classification": 9}}]
    reply = rig.infer_x("UINT8", [5, 7, 6], outputs=wanted).json()["outputs"][0]
    assert (reply["shape"], reply["data"]) == ([1, 3], ["7:1", "6:2", "5:0"])
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}], "outputs": wanted}
    reply = rig.request("POST", "/v2/models/single/infer", body).json()["outputs"][0]
    assert (reply["shape"], reply["data"]) == ([3], ["0.750000:2", "0.500000:0", "nan:1"])


def test_classification_in_binary_is_length_prefixed_text(rig: Rig) -> None:
    wanted = [{"name": "y", "parameters": {"classification": 1, "binary_data": True}}]
    content, binary = split(rig.infer_x("INT32", [5, -7], outputs=wanted))
    assert binary == b"\x03\x00\x00\x005:0"
    assert content["outputs"][0]["parameters"] == {"binary_data_size": 7}


def test_rows_keep_the_order_of_equal_values() -> None:
    tensor = Tensor.of("y", "FP32", np.array([[0.25, 3.5, 1.0, 3.5]]))
    best = classify(tensor, 3, ("a", "b", "c", "d"), batched=True)
    assert list(split_bytes(best)) == [b"3.500000:1:b", b"3.500000:3:d", b"1.000000:2:c"]


def test_smallest_integer_is_worse_than_any_other() -> None:
    tensor = Tensor.of("y", "INT8", np.array([-128, 127, 0]))
    assert list(split_bytes(classify(tensor, 3, (), batched=False))) == [b"127:1", b"0:2", b"-128:0"]


def test_more_axes_than_one_are_one_row_whose_labels_are_those_of_the_last() -> None:
    tensor = Tensor.of("y", "FP32", np.array([[[1, 2], [4, 3]]]))
    best = classify(tensor, 2, ("a", "b"), batched=True)
    assert best.shape == (1, 2)
    assert list(split_bytes(best)) == [b"4.000000:2:a", b"3.000000:3:b"]
