"""The tables of settings and of the contract have every key, with the type and the default of the code."""

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway import contract, loading, settings, specs
from gateway.configuration import ConfigurationError
from tests.docs.pages import DOCS, ROOT, fenced, plain, rows, text

LIMITS = {"Gt": ("gt", ">"), "Ge": ("ge", ">="), "Le": ("le", "<=")}
WORDS: tuple[tuple[Any, str], ...] = (
    (specs.Name, "name"),
    (specs.Version, "version"),
    (specs.Datatype, "OIP datatype"),
    (settings.Address, "host:port"),
    *((int, "integer"), (float, "number"), (str, "text"), (bool, "boolean")),
)


@pytest.mark.parametrize(
    ("page", "model"), [("settings.md", settings.Settings), ("adding-a-model.md", contract.Contract)]
)
def test_the_table_has_every_key_with_its_type_and_default(page: str, model: type[BaseModel]) -> None:
    table = {key: (kind, default) for key, kind, default, _ in rows(text(page), "key")}
    code = {key: (plain(_words(kind)), _shown(default)) for key, kind, default in _fields(model)}
    assert {key: (kind, _read(default)) for key, (kind, default) in table.items()} == code


def test_the_example_and_every_override_are_taken_and_the_mistake_is_refused(tmp_path: Path) -> None:
    example, mistake = fenced(text("settings.md"), "yaml")
    path = tmp_path / "inferway.yaml"
    path.write_text(example)
    pages = "\n".join(page.read_text() for page in (ROOT / "README.md", *DOCS.glob("*.md")))
    overrides = dict(re.findall(r"\b(INFERWAY_[A-Z_]+)=([^\s`]+)", pages))
    loaded = loading.load_settings(path, overrides)
    assert overrides
    for name, value in overrides.items():
        found: Any = loaded
        for part in name.removeprefix(loading.ENVIRONMENT_PREFIX).lower().split("__"):
            found = getattr(found, part)
        assert found == yaml.safe_load(value), name
    path.write_text(mistake)
    with pytest.raises(ConfigurationError) as refused:
        loading.load_settings(path, {})
    assert str(refused.value).replace(str(path), path.name) in text("settings.md")


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, annotation and default of every leaf of a settings model."""
    hints = get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        section, suffix = _section(hints[name])
        if section is None:
            yield prefix + name, hints[name], "required" if field.is_required() else field.default
        else:
            yield from _fields(section, f"{prefix}{name}{suffix}.")


def _section(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The section that an annotation holds, and how its place in a list or mapping is written."""
    inner = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    candidate, suffix = inner, ""
    if get_origin(inner) is tuple:
        candidate, suffix = get_args(inner)[0], "[]"
    elif "Mapping" in str(get_origin(inner)):
        key, candidate = get_args(inner)
        suffix = ".<version>" if key == specs.Version else ".<name>"
    is_section = isinstance(candidate, type) and issubclass(candidate, BaseModel)
    return (candidate, suffix) if is_section else (None, "")


def _words(annotation: Any) -> str:
    """An annotation as the tables word it."""
    known = [words for known, words in WORDS if annotation == known]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if known:
        return known[0]
    if origin is Annotated:
        marks = [mark for extra in arguments[1:] if isinstance(extra, FieldInfo) for mark in extra.metadata]
        return ", ".join([_words(arguments[0]), *filter(None, map(_limit, marks))])
    if origin in (Union, types.UnionType):
        return _words(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    return f"list of {_words(arguments[0])}" if origin is tuple else "mapping"


def _limit(mark: Any) -> str:
    kind = type(mark).__name__
    if kind == "MinLen":
        return "not empty"
    return f"{LIMITS[kind][1]} {getattr(mark, LIMITS[kind][0])}" if kind in LIMITS else ""


def _shown(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def _read(cell: str) -> Any:
    return None if cell == "none" else yaml.safe_load(cell)
