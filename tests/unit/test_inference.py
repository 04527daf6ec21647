"""The vocabulary: a tensor's bytes against its shape and datatype, and what a request says of itself."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.errors import InvalidTensor
from gateway.inference import ITEM_BYTES, NUMPY_TYPES, InferRequest, PoolKey, Tensor, split_bytes
from tests.fakes import a_request

FIXED = sorted(NUMPY_TYPES)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@given(st.sampled_from(sorted(ITEM_BYTES)), shapes, st.integers(-3, 3))
def test_bytes_must_be_exactly_as_many_as_shape_and_datatype_say(
    datatype: str, shape: tuple[int, ...], extra: int
) -> None:
    right = int(np.prod(shape, dtype=int)) * ITEM_BYTES[datatype]
    tensor = Tensor("t", datatype, shape, bytes(max(0, right + extra)))
    if len(tensor.data) == right:
        tensor.check_length()
    else:
        with pytest.raises(InvalidTensor, match=f"expected {right} bytes"):
            tensor.check_length()


@given(st.data(), st.sampled_from(FIXED), shapes)
def test_numpy_values_come_back_as_they_went_in(
    data: st.DataObject, datatype: str, shape: tuple[int, ...]
) -> None:
    values = data.draw(hnp.arrays(NUMPY_TYPES[datatype], shape))
    tensor = Tensor.of("t", datatype, values)
    tensor.check_length()
    assert tensor.shape == values.shape
    np.testing.assert_array_equal(tensor.numpy(), values)


def test_values_that_do_not_lie_in_a_row_are_written_row_major() -> None:
    tensor = Tensor.of("t", "INT16", np.array([[1, 2], [3, 4]]).T)
    assert tensor.data == struct.pack("<4h", 1, 3, 2, 4)


def test_a_view_of_the_data_cannot_change_it() -> None:
    assert not Tensor("t", "INT8", (1,), b"\x01").numpy().flags.writeable


def test_a_scalar_has_one_element() -> None:
    assert Tensor("t", "INT8", (), b"\x01").elements == 1


def test_an_unknown_datatype_is_refused_by_name() -> None:
    with pytest.raises(InvalidTensor, match="'FP99'"):
        Tensor("t", "FP99", (1,), b"\x01").check_length()


@given(st.lists(st.binary(max_size=9), max_size=8))
def test_bytes_elements_come_back_as_they_went_in(items: list[bytes]) -> None:
    tensor = Tensor.of_bytes("t", (len(items),), items)
    tensor.check_length()
    assert list(split_bytes(tensor)) == items


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=8), st.data())
def test_bytes_elements_cut_short_are_refused(items: list[bytes], data: st.DataObject) -> None:
    whole = Tensor.of_bytes("t", (len(items),), items)
    cut = data.draw(st.integers(0, len(whole.data) - 1))
    with pytest.raises(InvalidTensor):
        Tensor("t", "BYTES", whole.shape, whole.data[:cut]).check_length()


@given(st.binary(max_size=40), st.integers(0, 8))
def test_walking_any_bytes_ends_in_elements_or_in_a_refusal(data: bytes, count: int) -> None:
    tensor = Tensor("t", "BYTES", (count,), memoryview(data))
    try:
        items = list(split_bytes(tensor))
    except InvalidTensor:
        return
    assert Tensor.of_bytes("t", (len(items),), items).data == data


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_bytes_elements_than_the_shape_promises_is_refused(count: int) -> None:
    two = Tensor.of_bytes("t", (count,), [b"a", b""])
    with pytest.raises(InvalidTensor, match=f"expected {count} BYTES elements, got (at least )?2 elements"):
        two.check_length()


def test_a_length_that_runs_past_the_end_names_the_tensor_and_what_was_sent() -> None:
    with pytest.raises(InvalidTensor, match=r"tensor 'words'.*runs past the 6 bytes sent"):
        Tensor("words", "BYTES", (1,), b"\xff\xff\xff\xffab").check_length()


def test_the_pool_of_a_resolved_request_is_its_model_version_and_variant() -> None:
    assert a_request(version="2", variant="int8").pool == PoolKey("adder", "2", "int8")


def test_a_request_without_a_variant_goes_to_the_one_pool_of_all_versions() -> None:
    assert a_request(version="2").pool == PoolKey("adder", "", "")


def test_excluding_an_endpoint_leaves_the_rest_of_the_request_as_it_was() -> None:
    request = a_request(id="7")
    twice = request.without("a").without("b")
    assert twice.excluded == {"a", "b"}
    assert request.excluded == frozenset()
    assert twice == InferRequest(
        "adder", request.inputs, request.deadline, id="7", excluded=frozenset({"a", "b"})
    )
