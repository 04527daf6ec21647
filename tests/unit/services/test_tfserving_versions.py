"""Which versions the stand-in holds."""

from pathlib import Path

import pytest

from services.tfserving.versions import ModelConfig, local_path, numbered, wanted

BASE = Path("/models/m")
PRESENT = {1: BASE / "1", 2: BASE / "2", 10: BASE / "10"}


def test_only_folders_with_a_number_for_a_name_are_versions() -> None:
    children = [BASE / "1", BASE / "10", BASE / "tmp", BASE / "1.5", BASE / "-3"]
    assert numbered(children) == {1: BASE / "1", 10: BASE / "10"}


def test_a_folder_with_leading_zeros_is_that_number() -> None:
    assert numbered([BASE / "0007"]) == {7: BASE / "0007"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ModelConfig("m", BASE), [10]),
        (ModelConfig("m", BASE, latest=2), [2, 10]),
        (ModelConfig("m", BASE, latest=0), [1, 2, 10]),
        (ModelConfig("m", BASE, latest=0, specific=frozenset({1, 3})), [1]),
    ],
)
def test_each_policy_holds_its_versions(config: ModelConfig, expected: list[int]) -> None:
    assert list(wanted(config, PRESENT)) == expected


def test_a_path_under_models_lies_under_the_local_root() -> None:
    assert local_path("/models/m", Path("/home/me/build")) == Path("/home/me/build/m")


@pytest.mark.parametrize(("path", "root"), [("/models/m", None), ("/elsewhere/m", Path("/build"))])
def test_any_other_path_stays_as_it_is(path: str, root: Path | None) -> None:
    assert local_path(path, root) == Path(path)
