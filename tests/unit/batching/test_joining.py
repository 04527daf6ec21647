"""Joining: which requests become one, and that each gets its own part of the answer."""

import math
from typing import Any

import numpy as np
import pytest

from gateway.batching.joining import Joining, can_join, split
from gateway.contract import Contract
from gateway.inference import InferRequest, InferResponse, Tensor
from tests.fakes import a_contract, a_request, fake_contract


def values(*rows: tuple[int, int]) -> InferRequest:
    data = bytes(value for row in rows for value in row)
    return a_request(inputs=(Tensor("values", "INT8", (len(rows), 2), data),))


def padded(**output: Any) -> Contract:
    contract = fake_contract("m", {"tokens": ("INT64", [-1])}, {"out": ("FP32", [2])}).model_dump()
    padding = {"axis": 0, "value": 7, "maximum": 64}
    inputs = [{**contract["inputs"][0], "padded": padding}]
    return Contract.model_validate(
        {**contract, "inputs": inputs, "outputs": [{**contract["outputs"][0], **output}]}
    )


def tokens(*row: int) -> InferRequest:
    value = np.array([row], "<i8")
    return InferRequest("m", (Tensor.of("tokens", "INT64", value),), math.inf)


def test_rows_are_joined_in_order_and_each_answer_is_cut_back_to_its_own() -> None:
    requests = [values((1, 2)), values((3, 4), (5, 6)), values((7, 8))]
    joined = Joining(a_contract()).join(requests)
    assert joined.inputs == (Tensor("values", "INT8", (4, 2), bytes(range(1, 9))),)
    outputs = (
        Tensor("sum", "INT8", (4, 1), bytes([3, 7, 11, 15])),
        Tensor("pair", "FP32", (4, 1, 2), np.arange(8, dtype="<f4").tobytes()),
    )
    answers = split(InferResponse("adder", "1", outputs, "fp32", backend="b", endpoint="e"), [1, 2, 1])
    assert [answer.outputs[0] for answer in answers] == [
        Tensor("sum", "INT8", (1, 1), bytes([3])),
        Tensor("sum", "INT8", (2, 1), bytes([7, 11])),
        Tensor("sum", "INT8", (1, 1), bytes([15])),
    ]
    assert [answer.outputs[1].numpy().tolist() for answer in answers] == [
        [[[0, 1]]],
        [[[2, 3]], [[4, 5]]],
        [[[6, 7]]],
    ]
    assert {(each.version, each.variant, each.backend, each.endpoint) for each in answers} == {
        ("1", "fp32", "b", "e")
    }


def test_an_answer_does_not_keep_the_bytes_of_its_batch_alive() -> None:
    outputs = (Tensor("sum", "INT8", (2, 1), memoryview(bytes([1, 2]))),)
    for answer in split(InferResponse("adder", "1", outputs), [1, 1]):
        assert isinstance(answer.outputs[0].data, bytes)


def test_a_joined_request_has_the_latest_deadline_and_nobodys_id() -> None:
    requests = [a_request(deadline=5.0, id="a", key=b"k"), a_request(deadline=9.0, id="b")]
    joined = Joining(a_contract()).join(requests)
    assert (joined.deadline, joined.id, joined.key) == (9.0, "", b"")


@pytest.mark.parametrize(
    "other",
    [
        {"outputs": ("sum",)},
        {"parameters": {"temperature": 1}},
        {"excluded": frozenset({"a"})},
        {"picked": ["a"]},
        {"inputs": (Tensor("values", "UINT8", (1, 2), b"\x01\x02"),)},
        {"inputs": (Tensor("values", "INT8", (1, 1, 2), b"\x01\x02"),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_requests_that_differ_in_more_than_rows_do_not_join(other: dict[str, Any]) -> None:
    joining = Joining(a_contract())
    assert joining.key(a_request()) == joining.key(values((9, 9), (8, 8)))
    assert joining.key(a_request()) != joining.key(a_request(**other))


def test_parameters_that_python_takes_for_equal_do_not_join() -> None:
    joining = Joining(a_contract())
    keys = {joining.key(a_request(parameters={"p": value})) for value in (True, 1, 1.0)}
    assert len(keys) == 3


def test_the_order_of_parameters_does_not_matter() -> None:
    joining = Joining(a_contract())
    one, other = {"a": 1, "b": "x"}, {"b": "x", "a": 1}
    assert joining.key(a_request(parameters=one)) == joining.key(a_request(parameters=other))


def test_a_padded_axis_is_filled_up_to_the_longest_with_the_contracts_value() -> None:
    joining = Joining(padded())
    requests = [tokens(1, 2, 3, 4), tokens(5, 6, 7, 8, 9)]
    joined = joining.join(requests).inputs[0]
    assert joined.shape == (2, 5)
    assert joined.numpy().tolist() == [[1, 2, 3, 4, 7], [5, 6, 7, 8, 9]]


def test_a_row_is_never_more_than_half_padding() -> None:
    joining = Joining(padded())
    keys = [joining.key(tokens(*range(1, size + 1))) for size in range(1, 65)]
    for size, key in enumerate(keys, 1):
        longest = max(other for other in range(1, 65) if keys[other - 1] == key)
        assert longest < 2 * size


def test_sizes_do_not_mix_where_an_output_may_have_followed_the_padding() -> None:
    joining = Joining(padded(shape=[-1]))
    assert joining.key(tokens(1, 2)) != joining.key(tokens(1, 2, 3))


def test_a_request_is_counted_with_the_bytes_that_padding_or_its_answer_may_have() -> None:
    assert Joining(padded()).size_bytes(tokens(1, 2, 3)) == 2 * 24
    large = Joining(fake_contract("m", {"x": ("INT8", [1])}, {"y": ("FP32", [100])}))
    assert large.size_bytes(InferRequest("m", (Tensor("x", "INT8", (3, 1), b"123"),), math.inf)) == 1200


@pytest.mark.parametrize(
    "changes",
    [
        {"max_batch_size": 0},
        {"max_batch_size": 1},
        {"outputs": [{"name": "text", "datatype": "BYTES", "shape": [1]}]},
    ],
    ids=["no batch axis", "one row", "BYTES out"],
)
def test_a_model_whose_answers_cannot_be_cut_joins_nothing(changes: dict[str, Any]) -> None:
    assert can_join(a_contract())
    assert not can_join(a_contract(**changes))


def test_every_request_of_a_batch_learns_where_it_went() -> None:
    requests = [a_request(picked=[]), a_request(), a_request(picked=[])]
    joined = Joining(a_contract()).join(requests)
    assert joined.picked == []
    joined.picked.append("a")
    assert [request.picked for request in requests] == [["a"], None, ["a"]]
    assert joined.picked == ["a"]
