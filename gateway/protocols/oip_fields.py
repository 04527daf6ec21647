"""Typed access to the fields of a caller's JSON, with errors that name the field."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from gateway.errors import MalformedBody

INT64_LIMIT = 2**63
MAX_PARAMETERS = 1000
"""Each is looked at on the event loop, and a body of 64 MiB could have millions."""
_SHOWN = 60
_KINDS = {str: "a string", list: "a list", dict: "an object", bool: "true or false", int: "an integer"}

T = TypeVar("T")


def required(holder: Mapping[str, Any], key: str, kind: type[T], where: str = "") -> T:
    """The field `key`, of exactly that type.

    Args:
        holder: the object that has it.
        key: its name.
        kind: str, list, dict, bool or int.
        where: what stands before the name in an error's text.

    Raises:
        MalformedBody: it is not there or of another type.
    """
    value = holder.get(key)
    # Not isinstance: to Python a bool is an int.
    if type(value) is not kind:
        got = shown(value) if key in holder else "nothing"
        raise MalformedBody(f"{where}'{key}': expected {_KINDS[kind]}, got {got}")
    return value


def optional(holder: Mapping[str, Any], key: str, kind: type[T], default: T, where: str = "") -> T:
    """The field `key`, or `default` where it is absent or null.

    Raises:
        MalformedBody: it is of another type.
    """
    return default if holder.get(key) is None else required(holder, key, kind, where)


def natural(holder: Mapping[str, Any], key: str, where: str = "") -> int:
    """The field `key`, an integer of 0 or more that fits 64 bits.

    Raises:
        MalformedBody: it is not there or something else.
    """
    value = required(holder, key, int, where)
    if not 0 <= value < INT64_LIMIT:
        raise MalformedBody(f"{where}'{key}': expected a non-negative 64-bit integer, got {value}")
    return value


def check_parameter_count(count: int) -> None:
    """See that a request has no more than MAX_PARAMETERS.

    Raises:
        MalformedBody: it has.
    """
    if count > MAX_PARAMETERS:
        raise MalformedBody(f"parameters: expected at most {MAX_PARAMETERS}, got {count}")


def shown(value: object) -> str:
    """A JSON value in an error's text, cut short."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list) and (len(value) > _SHOWN or any(isinstance(v, (list, dict)) for v in value)):
        return f"a list of {len(value)}"
    text = json.dumps(value[:_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
