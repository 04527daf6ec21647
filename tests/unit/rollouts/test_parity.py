"""Two answers are compared by value, by label, and text by text."""

import math

import numpy as np
import pytest
from numpy.typing import ArrayLike

from gateway.inference import Tensor
from gateway.rollouts.parity import Parity, compare

NAN, INF = math.nan, math.inf


def out(values: ArrayLike, datatype: str = "FP32", name: str = "y") -> Tensor:
    return Tensor.of(name, datatype, np.asarray(values, np.float64))


def test_the_largest_and_the_mean_difference_are_over_all_outputs() -> None:
    ours = out([[1.0, 2.0]]), out([[10]], "INT32", "count")
    theirs = out([[1.5, 2.0]]), out([[7]], "INT32", "count")
    found = compare(ours, theirs, ())
    assert found.largest == 3.0
    assert found.mean == pytest.approx(3.5 / 3)


def test_labels_agree_where_the_largest_entry_is_the_same() -> None:
    ours, theirs = out([[0.6, 0.4], [0.3, 0.7]]), out([[0.9, 0.1], [0.8, 0.2]])
    found = compare([ours], [theirs], {"y"})
    assert (found.agreeing, found.labelled) == (1, 2)


def test_an_output_without_labels_has_none_to_agree() -> None:
    found = compare([out([[0.6, 0.4]])], [out([[0.1, 0.9]])], {"other"})
    assert (found.agreeing, found.labelled) == (0, 0)


@pytest.mark.parametrize(
    ("ours", "theirs", "apart"),
    [
        ([NAN], [NAN], 0.0),
        ([NAN], [1.0], INF),
        ([1.0], [NAN], INF),
        ([INF], [INF], 0.0),
        ([INF], [-INF], INF),
        ([INF], [1.0], INF),
        ([0.0], [-0.0], 0.0),
    ],
)
def test_what_is_no_number_equals_itself_and_is_infinitely_far_from_any_other(
    ours: list[float], theirs: list[float], apart: float
) -> None:
    assert compare([out(ours)], [out(theirs)], ()).largest == apart


def test_nan_in_place_of_every_value_is_another_label_unless_both_have_it() -> None:
    ours, theirs = out([[0.1, 0.9]]), out([[NAN, NAN]])
    assert compare([ours], [theirs], {"y"}).agreeing == 0
    assert compare([theirs], [theirs], {"y"}).agreeing == 1


def test_text_is_equal_or_infinitely_far() -> None:
    ours, same, other = (
        Tensor.of_bytes("y", (2,), items) for items in ([b"a", b"bc"], [b"a", b"bc"], [b"ab", b"c"])
    )
    assert compare([ours], [same], ()) == Parity(0.0, 0.0, 0, 0)
    assert compare([ours], [other], ()).largest == INF


def test_another_shape_is_infinitely_far() -> None:
    assert compare([out([1.0, 2.0])], [out([[1.0, 2.0]])], ()).largest == INF


def test_bfloat16_is_read_as_the_upper_half_of_a_float() -> None:
    ours, theirs = (Tensor("y", "BF16", (1,), data) for data in (b"\x80\x3f", b"\x00\x40"))
    assert compare([ours], [theirs], ()).largest == 1.0  # 1.0 and 2.0


def test_booleans_and_unsigned_numbers_do_not_wrap_around() -> None:
    assert compare([out([0], "UINT8")], [out([255], "UINT8")], ()).largest == 255.0
    assert compare([out([0], "BOOL")], [out([1], "BOOL")], ()).largest == 1.0


def test_outputs_without_values_are_equal() -> None:
    assert compare([out(np.zeros((0, 2)))], [out(np.zeros((0, 2)))], {"y"}) == Parity(0.0, 0.0, 0, 0)
