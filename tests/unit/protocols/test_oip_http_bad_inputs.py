"""OIP REST: an input that is wrong is a 400 that names it, and costs no inference."""

from typing import Any

import pytest

from tests.unit.protocols.oip_http_rig import Rig, image, refused, tensor


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": None}, "inputs[0].'name': expected a string, got nothing"),
        ({"name": 3}, "inputs[0].'name': expected a string, got 3"),
        ({"name": "picture"}, "'picture': expected the inputs ['image'], got an unknown input"),
        ({"datatype": None}, "input 'image': 'datatype': expected a string, got nothing"),
        ({"datatype": "FLOAT"}, "'image': expected datatype FP32, got FLOAT"),
        ({"datatype": "FP64"}, "'image': expected datatype FP32, got FP64"),
        ({"shape": None}, "input 'image': 'shape': expected a list, got nothing"),
        ({"shape": 4}, "input 'image': 'shape': expected a list, got 4"),
        ({"shape": [-1, 2, 2]}, "'image': expected a shape of non-negative integers, got [-1, 2, 2]"),
        ({"shape": [1.0, 2, 2]}, "'image': expected a shape of non-negative integers"),
        ({"shape": [True, 2, 2]}, "'image': expected a shape of non-negative integers"),
        ({"shape": [1, 4]}, "'image': expected shape [-1, 2, 2], got shape [1, 4]"),
        ({"shape": [1, 2, 3]}, "'image': expected shape [-1, 2, 2], got shape [1, 2, 3]"),
        ({"shape": [2**62] * 2000}, "'image': expected shape [-1, 2, 2], got 2000 dimensions"),
        ({"data": [1, 2, 3]}, "'image': expected 4 elements for shape [1, 2, 2], got 3 elements"),
        ({"shape": [9, 2, 2], "data": [0] * 36}, "'image': expected a batch of 1 to 8, got a batch of 9"),
        ({"shape": [0, 2, 2], "data": []}, "'image': expected a batch of 1 to 8, got a batch of 0"),
        ({"data": None}, "'image': expected either 'data' or 'binary_data_size', got neither"),
        ({"parameters": {"binary_data_size": 16}}, "'data' or 'binary_data_size', got both"),
        ({"data": 4}, "'image': expected 'data' as a list, got 4"),
        ({"data": [1, 2, "3", 4]}, "'image': expected numbers that fit FP32, got \"3\" as element 2"),
        ({"data": [1, None, 3, 4]}, "'image': expected numbers that fit FP32, got null as element 1"),
        ({"data": [True, 2, 3, 4]}, "'image': expected numbers for FP32, got true as element 0"),
        ({"data": [1, 2, [3], 4]}, "'image': expected numbers that fit FP32, got [3] as element 2"),
        ({"data": [[1, 2], 3, 4]}, "'image': expected a list at every place of one depth, got 3"),
        ({"data": [{}, 2, 3, 4]}, "got an object as element 0"),
        ({"parameters": 3}, "input 'image': 'parameters': expected an object, got 3"),
        ({"data": None, "parameters": {"binary_data_size": "a"}}, "'binary_data_size': expected an integer"),
        ({"data": None, "parameters": {"binary_data_size": -1}}, "'binary_data_size': expected a non-neg"),
        (
            {"data": None, "parameters": {"binary_data_size": 16}},
            "'image': expected 16 bytes behind the JSON",
        ),
    ],
)
def test_wrong_input_is_a_400_that_names_the_tensor(rig: Rig, changes: dict[str, Any], words: str) -> None:
    refused(rig, tensor(**changes), words)


@pytest.mark.parametrize(
    ("datatype", "data", "words"),
    [
        ("INT64", [1.5], "expected numbers that fit INT64, got 1.5 as element 0"),
        ("UINT8", [3, 300], "expected numbers that fit UINT8, got 300 as element 1"),
        ("UINT8", [-1], "expected numbers that fit UINT8, got -1 as element 0"),
        ("BOOL", [True, 0], "expected true or false for BOOL, got 0 as element 1"),
        ("BYTES", ["a", 3], "expected text for BYTES, got 3 as element 1"),
        ("FP16", [1.0], "expected binary data, since JSON cannot hold FP16"),
    ],
)
def test_element_that_does_not_fit_its_datatype_is_named(
    rig: Rig, datatype: str, data: list[Any], words: str
) -> None:
    assert words in rig.infer_x(datatype, data).json()["error"]
    assert rig.infer.requests == []


def test_one_input_twice_and_no_input_at_all_are_refused(rig: Rig) -> None:
    refused(rig, {"inputs": image()["inputs"] * 2}, "'image': expected each input once")
    refused(rig, {"inputs": []}, "'image': expected FP32 [-1, 2, 2], got nothing")
