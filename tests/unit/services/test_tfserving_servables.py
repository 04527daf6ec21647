"""How the stand-in's models come and go."""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from services.tfserving.servables import Servables, ServingError
from services.tfserving.versions import ModelConfig, State

Load = Callable[[Path], str]


class Loader:
    """Loads the folder's path; the paths in `broken` cannot be."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.loaded: list[str] = []

    def __call__(self, path: Path) -> str:
        self.loaded.append(path.name)
        if path.name in self.broken:
            raise ValueError("no graph")
        return path.name


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for version in ("1", "2"):
        (tmp_path / "m" / version).mkdir(parents=True)
    return tmp_path / "m"


def states(servables: Servables[str]) -> dict[int, State]:
    return {version.number: version.state for version in servables.versions("m")}


def refused(code: grpc.StatusCode, text: str, call: Callable[[], object]) -> None:
    with pytest.raises(ServingError) as raised:
        call()
    assert (raised.value.code, str(raised.value)) == (code, text)


def test_without_a_number_the_latest_loaded_version_answers(base: Path) -> None:
    servables = Servables(Loader())
    servables.configure([ModelConfig("m", base, latest=2)])
    servables.poll()
    assert servables.find("m", None, "") == (2, "2")
    assert servables.find("m", 1, "") == (1, "1")
    assert [version.number for version in servables.status("m", None)] == [2, 1]


def test_a_new_version_is_loaded_before_the_old_one_goes(base: Path) -> None:
    servables = Servables(loader := Loader())
    servables.configure([ModelConfig("m", base)])
    servables.poll()
    loader.broken.add("3")
    (base / "3").mkdir()
    servables.poll()
    assert servables.find("m", None, "") == (2, "2")
    loader.broken.clear()
    (base / "4").mkdir()
    servables.poll()
    assert servables.find("m", None, "") == (4, "4")
    assert states(servables)[2] is State.END


def test_a_failed_load_is_tried_again_after_its_interval_and_so_often(base: Path) -> None:
    clock, loader = Clock(), Loader()
    loader.broken.add("2")
    servables = Servables(loader, max_load_retries=1, load_retry_seconds=60, clock=clock)
    servables.configure([ModelConfig("m", base)])
    servables.poll()
    servables.poll()
    assert loader.loaded == ["2"]
    assert states(servables) == {2: State.LOADING}
    clock.now = 60.0
    servables.poll()
    clock.now = 600.0
    servables.poll()
    assert loader.loaded == ["2", "2"]
    assert states(servables) == {2: State.END}
    assert servables.status("m", 2)[0].error == "no graph"


def test_a_base_path_that_is_away_leaves_its_versions_serving(base: Path) -> None:
    servables = Servables(Loader())
    servables.configure([ModelConfig("m", base)])
    servables.poll()
    base.rename(base.with_name("away"))
    servables.poll()
    assert servables.find("m", None, "") == (2, "2")


def test_a_model_that_left_the_configuration_is_let_go_and_may_come_back(base: Path) -> None:
    servables = Servables(Loader())
    servables.configure([ModelConfig("m", base)])
    servables.poll()
    servables.configure([])
    servables.poll()
    assert states(servables) == {2: State.END}
    servables.configure([ModelConfig("m", base)])
    servables.poll()
    assert states(servables) == {2: State.AVAILABLE}


def test_unknown_models_versions_and_labels_are_refused_in_the_real_servers_words(base: Path) -> None:
    servables = Servables(Loader())
    servables.configure([ModelConfig("m", base)])
    servables.poll()
    not_found, invalid = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT
    find, status = servables.find, servables.status
    refused(not_found, "Servable not found for request: Latest(x)", lambda: find("x", None, ""))
    refused(not_found, "Servable not found for request: Specific(m, 7)", lambda: find("m", 7, ""))
    refused(invalid, "Unrecognized servable version label: new", lambda: find("m", None, "new"))
    refused(invalid, "ModelSpec has no name specified.", lambda: find("", None, ""))
    refused(not_found, "Could not find any versions of model x", lambda: status("x", None))
    refused(not_found, "Could not find version 7 of model m", lambda: status("m", 7))


def test_a_label_stands_for_its_version(base: Path) -> None:
    servables = Servables(Loader(), labels_before_available=True)
    servables.configure([ModelConfig("m", base, latest=2, labels={"stable": 1})])
    servables.poll()
    assert servables.find("m", None, "stable") == (1, "1")


def test_a_label_may_not_name_a_version_that_is_not_there(base: Path) -> None:
    refusal = (
        "Request to assign label to version 1 of model m, which is not currently available for inference"
    )
    servables = Servables(Loader())
    labelled = [ModelConfig("m", base, latest=2, labels={"stable": 1})]
    refused(grpc.StatusCode.FAILED_PRECONDITION, refusal, lambda: servables.configure(labelled))
    servables.configure([ModelConfig("m", base, latest=2)])
    servables.poll()
    servables.configure(labelled)
    assert servables.find("m", None, "stable") == (1, "1")


def test_a_label_in_use_never_moves_to_a_version_that_is_not_there(base: Path) -> None:
    servables = Servables(Loader(), labels_before_available=True)
    servables.configure([ModelConfig("m", base, latest=2, labels={"stable": 1})])
    servables.poll()
    moved = [ModelConfig("m", base, latest=2, labels={"stable": 9})]
    with pytest.raises(ServingError, match="version 9 of model m"):
        servables.configure(moved)
    assert servables.find("m", None, "stable") == (1, "1")


def test_a_configuration_with_a_model_twice_or_a_relative_path_is_refused(base: Path) -> None:
    servables: Servables[str] = Servables(Loader())
    twice = [ModelConfig("m", base), ModelConfig("m", base)]
    with pytest.raises(ServingError, match="Illegal to list model m multiple times"):
        servables.configure(twice)
    with pytest.raises(ServingError, match="absolute path"):
        servables.configure([ModelConfig("m", Path("models/m"))])
