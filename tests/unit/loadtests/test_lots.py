"""Lots: how often an input comes, and what a cache makes of it."""

import re

import numpy as np
import pytest

from loadtests.inputs.lots import Distinct, Zipf
from tests.docs.pages import ROOT, rows


def drawn(lot: Zipf, count: int, seed: int = 1) -> list[int]:
    rng = np.random.default_rng(seed)
    return [lot.draw(rng) for _ in range(count)]


def test_each_rank_comes_as_often_as_the_law_says() -> None:
    counts = np.bincount(drawn(Zipf(4, 1.0), 20_000), minlength=4)
    shares = np.array([1, 1 / 2, 1 / 3, 1 / 4])
    assert counts / 20_000 == pytest.approx(shares / shares.sum(), abs=0.015)


def test_an_exponent_of_0_draws_all_alike() -> None:
    counts = np.bincount(drawn(Zipf(5, 0.0), 20_000), minlength=5)
    assert counts / 20_000 == pytest.approx(np.full(5, 0.2), abs=0.015)


def test_no_rank_lies_beyond_the_catalogue() -> None:
    assert set(drawn(Zipf(3, 0.5), 1_000)) == {0, 1, 2}


@pytest.mark.parametrize("exponent", [0.0, 0.8, 1.1])
def test_the_expected_hit_ratio_is_that_of_a_cache_that_forgets_nothing(exponent: float) -> None:
    lot = Zipf(1_000, exponent)
    seen = drawn(lot, 5_000)
    hits = 1 - len(set(seen)) / len(seen)
    assert lot.hit_ratio(5_000) == pytest.approx(hits, abs=0.02)


def test_a_larger_exponent_and_a_smaller_catalogue_make_more_hits() -> None:
    assert Zipf(10_000, 0.5).hit_ratio(2_000) < Zipf(10_000, 1.0).hit_ratio(2_000)
    assert Zipf(10_000, 1.0).hit_ratio(2_000) < Zipf(100, 1.0).hit_ratio(2_000)


def test_the_table_of_hit_ratios_in_the_readme_is_what_the_law_says() -> None:
    page = (ROOT / "loadtests" / "README.md").read_text()
    exponents = [
        float(cell) for cell in re.findall(r"^\| inputs \| (.*) \|$", page, re.MULTILINE)[0].split(" | ")
    ]
    table = rows(page, "inputs")
    assert len(table) == 4
    for size, *ratios in table:
        expected = [Zipf(int(size), exponent).hit_ratio(10_000) for exponent in exponents]
        assert [float(ratio) for ratio in ratios] == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(("size", "exponent"), [(0, 1.0), (10, -0.1)])
def test_a_lot_without_inputs_or_of_a_negative_exponent_is_refused(size: int, exponent: float) -> None:
    with pytest.raises(ValueError, match=f"got {size} and {exponent}"):
        Zipf(size, exponent)


def test_where_none_may_come_twice_the_indices_count_up() -> None:
    lot = Distinct(500)
    rng = np.random.default_rng(1)
    assert [lot.draw(rng) for _ in range(3)] == [500, 501, 502]
