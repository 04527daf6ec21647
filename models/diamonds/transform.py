"""From a diamond's description to the network's input, and back to a price; training uses it too."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

CARATS = (0.2, 5.01)
"""The range of weights that the data set's public description names."""
GRADES = {
    "cut": ("Fair", "Good", "Very Good", "Premium", "Ideal"),
    "color": ("J", "I", "H", "G", "F", "E", "D"),
    "clarity": ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
}
"""Each from the worst to the best, as jewellers grade."""
FIELDS = ("carat", *GRADES)
LARGEST_BYTES = 1 << 16


def to_inputs(payload: bytes) -> dict[str, NDArray[np.float32]]:
    """Turn a description into one item for the network.

    Args:
        payload: JSON: `{"carat": 0.7, "cut": "Ideal", "color": "G", "clarity": "VS1"}`.

    Returns:
        `{"features": float32 [4]}`, each 0..1: the logarithm of the weight between those of CARATS, and each
        grade's place in its scale.

    Raises:
        ValueError: with the field, what was expected and what came.
    """
    if len(payload) > LARGEST_BYTES:
        raise ValueError(f"expected at most {LARGEST_BYTES} bytes of JSON, got {len(payload)}")
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON with the fields {', '.join(FIELDS)}, got something else") from error
    if not isinstance(fields, dict):
        text = f"expected a JSON object with the fields {', '.join(FIELDS)}, got {_shown(fields)}"
        raise ValueError(text)  # noqa: TRY004 - one kind of error, whatever is wrong with a payload
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise ValueError(f"expected the fields {', '.join(FIELDS)}, got also {_shown(unknown[0])}")
    places = [_weight(fields), *(_place(fields, name) for name in GRADES)]
    return {"features": np.array(places, np.float32)}


def to_answer(outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
    """`log_price` [1] of one item as `{"price": US dollars}`, to the cent."""
    return {"price": round(math.exp(float(outputs["log_price"].astype(float)[0])), 2)}


def _weight(fields: Mapping[str, Any]) -> float:
    value = _field(fields, "carat", f"a number from {CARATS[0]} to {CARATS[1]}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not CARATS[0] <= value <= CARATS[1]:
        raise ValueError(f"carat: expected a number from {CARATS[0]} to {CARATS[1]}, got {_shown(value)}")
    low, high = map(math.log, CARATS)
    return (math.log(value) - low) / (high - low)


def _place(fields: Mapping[str, Any], name: str) -> float:
    grades = GRADES[name]
    value = _field(fields, name, f"one of {', '.join(grades)}")
    if value not in grades:
        raise ValueError(f"{name}: expected one of {', '.join(grades)}, got {_shown(value)}")
    return grades.index(value) / (len(grades) - 1)


def _field(fields: Mapping[str, Any], name: str, expected: str) -> Any:
    if name not in fields:
        raise ValueError(f"{name}: expected {expected}, got nothing")
    return fields[name]


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}..."  # noqa: PLR2004 - enough to recognise it
