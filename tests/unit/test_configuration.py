"""Reading a configuration file: every message names the file, the line and the mend."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from gateway.configuration import ConfigurationError, load, read


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")
    weight: Annotated[int, Field(gt=0)]


class Box(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = 1
    items: tuple[Item, ...] = ()
    named: Mapping[str, Item] = {}
    best: Item | None = None


class Rig:
    """A file to write and to load."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "box.yaml"

    def load(self, text: str, overrides: Mapping[str, Any] | None = None) -> Box:
        self.path.write_text(text)
        return read(self.path, overrides).checked(Box)

    def refusal(self, text: str, overrides: Mapping[str, Any] | None = None) -> list[str]:
        """The lines of the message, without the folder."""
        with pytest.raises(ConfigurationError) as caught:
            self.load(text, overrides)
        return str(caught.value).replace(str(self.path), "box.yaml").splitlines()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_what_fits_is_read(rig: Rig) -> None:
    box = rig.load("size: 3\nitems: [{weight: 1}]\nnamed:\n  a: {weight: 2}\n")
    assert (box.size, box.items[0].weight, box.named["a"].weight) == (3, 1, 2)


@pytest.mark.parametrize("text", ["", "# only words\n", "---\n"])
def test_an_empty_file_means_all_defaults(rig: Rig, text: str) -> None:
    assert rig.load(text).size == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size: 1\nitems:\n  - weight: 1\n  - weight: 0\n", "box.yaml:4: items.1.weight: Input should be gr"),
        (
            "size: 1\n\nnamed:\n  a:\n    weight: x\n",
            "box.yaml:5: named.a.weight: Input should be a valid int",
        ),
        ("size: 1\nnamed:\n  a: {}\n", "box.yaml:3: named.a.weight: Field required"),
        ("size: [1]\n", "box.yaml:1: size: Input should be a valid integer"),
        ("size: 1\nitems: 7\n", "box.yaml:2: items: expected a list (got 7)"),
    ],
)
def test_a_wrong_value_is_told_with_its_line_and_place(rig: Rig, text: str, message: str) -> None:
    assert rig.refusal(text)[0].startswith(message)


def test_the_value_that_came_is_told(rig: Rig) -> None:
    assert rig.refusal("named: {a: {weight: -3}}") == [
        "box.yaml:1: named.a.weight: Input should be greater than 0 (got -3)"
    ]


def test_every_thing_to_mend_has_a_line_of_its_own(rig: Rig) -> None:
    lines = rig.refusal("size: x\nitems:\n  - weight: 0\n  - {}\n")
    assert [line.split(": ")[0] for line in lines] == ["box.yaml:1", "box.yaml:3", "box.yaml:4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size: 1\nitmes: []\n", "box.yaml:2: itmes: unknown key; did you mean 'items'?"),
        ("colour: red\n", "box.yaml:1: colour: unknown key; known here: best, items, named, size"),
        ("items:\n- weight: 1\n  wieght: 2\n", "box.yaml:3: items.0.wieght: unknown key; did you mean 'wei"),
        ("named:\n  a:\n    weight: 1\n    x: 2\n", "box.yaml:4: named.a.x: unknown key; known here: weight"),
        ("best:\n  weight: 1\n  weihgt: 2\n", "box.yaml:3: best.weihgt: unknown key; did you mean 'weight'?"),
    ],
)
def test_an_unknown_key_is_told_with_the_one_that_was_meant(rig: Rig, text: str, message: str) -> None:
    assert rig.refusal(text)[0].startswith(message)


def test_a_key_that_is_written_twice_is_refused(rig: Rig) -> None:
    assert rig.refusal("size: 1\nitems: []\nsize: 2\n") == ["box.yaml:3: size: written twice"]
    assert rig.refusal("named:\n  a: {weight: 1}\n  a: {weight: 2}\n") == ["box.yaml:3: a: written twice"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("size: 1\nitems: [\n", 3),
        ("size: 1\n\tsize: 2\n", 2),
        ("a: 1\n---\nb: 2\n", 2),
        ("a: !!nothing 1\n", 1),
    ],
)
def test_what_is_not_yaml_is_told_with_its_line(rig: Rig, text: str, line: int) -> None:
    assert rig.refusal(text)[0].startswith(f"box.yaml:{line}: not YAML: ")


@pytest.mark.parametrize("text", [b"size: \xff\n", b"size: \x00\n", b"size: 2020-13-45\n"])
def test_what_cannot_be_read_as_yaml_at_all_is_a_message_too(rig: Rig, text: bytes) -> None:
    rig.path.write_bytes(text)
    with pytest.raises(ConfigurationError, match=r"box\.yaml:1: not YAML"):
        load(Box, rig.path)


@pytest.mark.parametrize("text", ["[1, 2]", "words"])
def test_a_file_that_holds_no_sections_is_refused(rig: Rig, text: str) -> None:
    assert rig.refusal(text)[0].startswith("box.yaml:1: expected a mapping of sections, got ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load(Box, tmp_path / "nowhere.yaml")


def test_overrides_win_over_the_file_and_leave_the_rest(rig: Rig) -> None:
    box = rig.load("size: 3\nnamed: {a: {weight: 1}, b: {weight: 2}}\n", {"named": {"a": {"weight": 9}}})
    assert (box.size, box.named["a"].weight, box.named["b"].weight) == (3, 9, 2)


@pytest.mark.parametrize("text", ["", "best:\n", "best: 7\n"])
def test_overrides_need_no_section_in_the_file(rig: Rig, text: str) -> None:
    assert rig.load(text, {"best": {"weight": 9}}).best == Item(weight=9)


@pytest.mark.parametrize("text", ["size: 1\nbest: {weight: 1}\n", ""])
def test_a_wrong_override_is_blamed_on_the_environment_and_not_on_a_line(rig: Rig, text: str) -> None:
    assert rig.refusal(text, {"best": {"weight": 0}}) == [
        "environment: best.weight: Input should be greater than 0 (got 0)"
    ]


def test_an_unknown_override_is_blamed_on_the_environment(rig: Rig) -> None:
    assert rig.refusal("size: 1\n", {"sizes": 1}) == ["environment: sizes: unknown key; did you mean 'size'?"]


def test_a_merged_key_is_told_with_the_line_where_it_stands(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    text = "named:\n  a: &a\n    weight: 0\n  b:\n    <<: *a\n    weight: -1\n  c:\n    <<: *a\n"
    assert [line.partition(" ")[0] for line in rig.refusal(text)] == [f"box.yaml:{at}:" for at in (3, 6, 3)]
    assert rig.load(text.replace("0", "2").replace("-1", "3")).named["b"].weight == 3
