"""Reads a YAML file into a pydantic model, with errors that name file, line and mend."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

Model = TypeVar("Model", bound=BaseModel)

IN_YAML = {
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "string_type": "expected text; put it in quotes",
    "too_short": "expected at least one entry",
}
"""What pydantic says in the words of Python, in those of YAML, by the type of the error."""


LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML has it: ten times as fast, and a reload happens beside requests."""


class ConfigurationError(Exception):
    """A configuration that cannot be used; one line for each thing to mend.

    Attributes:
        missing: a file that mends it by being there, if there is one.
    """

    def __init__(self, text: str, missing: Path | None = None) -> None:
        super().__init__(text)
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Source:
    """What a file says with overrides put over it; knows the line of everything in it."""

    path: Path
    overrides: Mapping[str, Any]
    _data: Mapping[str, Any]
    _node: yaml.Node | None

    def checked(self, model: type[Model]) -> Model:
        """As a model.

        Raises:
            ConfigurationError: it is not what `model` asks for.
        """
        try:
            return model.model_validate(_merged(self._data, self.overrides))
        except ValidationError as error:
            problems = [(_place(problem), problem) for problem in error.errors(include_url=False)]
            lines = [f"{self.where(place)}: {_words(model, place, problem)}" for place, problem in problems]
            raise ConfigurationError("\n".join(lines)) from error

    def where(self, place: Sequence[str | int]) -> str:
        """The head of a message: `file:line`, or that it is from the environment."""
        if _holds(self.overrides, place):
            return "environment"
        return f"{self.path}:{_line(self._node, place)}"


def load(model: type[Model], path: Path) -> Model:
    """Read `path` and check it.

    Raises:
        ConfigurationError: unreadable, not YAML, or not what `model` asks for.
    """
    return read(path).checked(model)


def read(
    path: Path, overrides: Mapping[str, Any] | None = None, texts: dict[str, str] | None = None
) -> Source:
    """Read `path`, and put `overrides` over it.

    Args:
        path: the file.
        overrides: what is to hold in place of what the file says.
        texts: of files, by their paths: one that is there is not read from the disk, and one that was read is
            put there.

    Raises:
        ConfigurationError: unreadable, or not YAML.
    """
    data, node = _read(path, {} if texts is None else texts)
    return Source(path, overrides or {}, data, node)


def misplaced(text: str, *place: str | int) -> PydanticCustomError:
    """What a check of several parts raises when one of them is wrong: the one at `place`, seen from there."""
    return PydanticCustomError("misplaced", "{text}", {"text": text, "place": place})


def meant(name: str, known: Iterable[str]) -> str:
    """What to write in place of a name that there is not."""
    known = sorted(known)
    close = get_close_matches(name, known, 1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known here: {', '.join(known)}" if known else "none is configured"


def _read(path: Path, texts: dict[str, str]) -> tuple[dict[str, Any], yaml.Node | None]:
    """The file's content, and its nodes, which know their lines."""
    try:
        if str(path) not in texts:
            texts[str(path)] = path.read_text(encoding="utf-8")
        text = texts[str(path)]
        loader = LOADER(text)  # parsed once: data and lines are of the same nodes
        node = loader.get_single_node()
        repeated = list(_repeated(node))  # before merge keys (<<) are put into their mappings
        data = (node and loader.construct_document(node)) or {}
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(f"{path}:{line}: not YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:  # not UTF-8, or an impossible date
        raise ConfigurationError(f"{path}:1: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}:1: expected a mapping of sections, got {type(data).__name__}")
    if twice := [f"{path}:{key.start_mark.line + 1}: {key.value}: written twice" for key in repeated]:
        raise ConfigurationError("\n".join(twice))
    return data, node


def _repeated(node: yaml.Node | None) -> Iterator[yaml.Node]:
    """The keys that their mapping has already; YAML would let the last one win without a word."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield key
            seen.add(key.value)
            yield from _repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(value)


def _merged(data: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(data)
    for key, value in overrides.items():
        below = merged.get(key)
        mapping = below if isinstance(below, dict) else {}
        merged[key] = _merged(mapping, value) if isinstance(value, dict) else value
    return merged


def _holds(overrides: Any, place: Sequence[str | int]) -> bool:
    """Whether what stands at `place` came from the overrides."""
    for step in place:
        if not isinstance(overrides, Mapping):
            return True
        if step not in overrides:
            return False
        overrides = overrides[step]
    return bool(place) and not isinstance(overrides, Mapping)


def _line(node: yaml.Node | None, place: Sequence[str | int]) -> int:
    """The line of the deepest node of `place` that the file has."""
    line = node.start_mark.line + 1 if node else 1
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in reversed(node.value) if k.value == str(step)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _place(problem: ErrorDetails) -> tuple[str | int, ...]:
    within = problem["ctx"]["place"] if problem["type"] == "misplaced" else ()
    return (*problem["loc"], *within)


def _words(model: type[BaseModel], place: Sequence[str | int], problem: ErrorDetails) -> str:
    key = ".".join(map(str, place))
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {meant(str(place[-1]), _fields(model, place[:-1]))}"
    message = IN_YAML.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    prefix = f"{key}: " if key else ""
    is_scalar = isinstance(problem["input"], (str, int, float, bool))
    return f"{prefix}{message}" + (f" (got {problem['input']!r})" if is_scalar else "")


def _fields(model: Any, place: Sequence[str | int]) -> list[str]:
    """The keys that a section has; found by following the place through the models' annotations."""
    for step in place:
        field = model.model_fields.get(step) if hasattr(model, "model_fields") else None
        annotation = field.annotation if field else model
        model = _section(annotation)
    return sorted(getattr(model, "model_fields", {}))


def _section(annotation: Any) -> Any:
    """The model inside an annotation such as `Mapping[str, Section]` or `tuple[Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [_section(part) for part in getattr(annotation, "__args__", ())]
    return next((part for part in inner if part is not None), None)
