"""From a diamond's description to features, and from a logarithm to a price."""

import json
import math

import numpy as np
import pytest

from models.diamonds import transform

DIAMOND = {"carat": 0.7, "cut": "Ideal", "color": "G", "clarity": "VS1"}


def features(**changes: object) -> list[float]:
    values: list[float] = transform.to_inputs(json.dumps(DIAMOND | changes).encode())["features"].tolist()
    return values


def test_the_worst_smallest_diamond_is_all_zeros_and_the_best_largest_all_ones() -> None:
    assert features(carat=0.2, cut="Fair", color="J", clarity="I1") == [0, 0, 0, 0]
    assert features(carat=5.01, cut="Ideal", color="D", clarity="IF") == [1, 1, 1, 1]


def test_weight_counts_by_its_logarithm() -> None:
    (low, middle, high) = (features(carat=carat)[0] for carat in (0.5, 1, 2))
    assert high - middle == pytest.approx(middle - low, abs=1e-6)


@pytest.mark.parametrize("name", ["cut", "color", "clarity"])
def test_a_better_grade_is_a_larger_feature(name: str) -> None:
    place = list(DIAMOND).index(name)
    values = [features(**{name: grade})[place] for grade in transform.GRADES[name]]
    assert values == sorted(set(values))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "expected JSON with the fields carat, cut, color, clarity, got something else"),
        (b"\xff\xfe\xff", "expected JSON"),
        (b"[" * 60_000, "expected JSON"),
        (b" " * 70_000, "expected at most 65536 bytes of JSON, got 70000"),
        (b"[1]", r"expected a JSON object with the fields carat, cut, color, clarity, got \[1\]"),
        (json.dumps(DIAMOND | {"colour": "G"}).encode(), 'got also "colour"'),
        (b'{"cut": "Ideal"}', "carat: expected a number from 0.2 to 5.01, got nothing"),
        (json.dumps(DIAMOND | {"carat": 9}).encode(), "carat: expected a number from 0.2 to 5.01, got 9"),
        (json.dumps(DIAMOND | {"carat": "1"}).encode(), 'carat: expected .* got "1"'),
        (json.dumps(DIAMOND | {"carat": True}).encode(), "carat: expected .* got true"),
        (json.dumps(DIAMOND | {"carat": math.nan}).encode(), "carat: expected .* got NaN"),
        (json.dumps(DIAMOND | {"cut": "ideal"}).encode(), 'cut: expected one of Fair, .*, got "ideal"'),
        (json.dumps(DIAMOND | {"clarity": None}).encode(), "clarity: expected one of I1, .*, got null"),
        (json.dumps(DIAMOND | {"color": ["D"] * 99}).encode(), r"color: expected one of .*\.\.\.$"),
        (b'{"carat": 0.7, "cut": "Ideal", "color": "G"}', "clarity: expected one of .*, got nothing"),
    ],
)  # fmt: skip
def test_what_is_no_diamond_is_refused_with_field_expectation_and_value(payload: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transform.to_inputs(payload)


def test_the_answer_is_the_price_to_the_cent() -> None:
    answer = transform.to_answer({"log_price": np.array([math.log(1234.5)], np.float32)})
    assert answer == {"price": pytest.approx(1234.5, abs=0.01)}
