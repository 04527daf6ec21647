"""What a stack is made of follows from the gateway's settings, which are checked before anything starts."""

from pathlib import Path

import pytest
import yaml

from gateway.configuration import ConfigurationError
from services import local_stacks
from services.local_stacks import describe
from tests.fakes import a_version

POOL = "endpoints: {t: {backend: triton, address: 'h:1'}}\npools: [{model: m, endpoints: [t]}]\n"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setattr(local_stacks, "ROOT", root)
    return root


def a_model(folder: Path, *files: str, example: str = "") -> None:
    folder.mkdir()
    contract = {
        "name": "m",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
        "example": example,
        "default_version": "1",
        "versions": {"1": a_version("fp32")},
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(contract))
    for file in files:
        (folder / file).touch()


def first_request(root: Path, text: str) -> str:
    (root / "inferway.yaml").write_text(text)
    return describe("embedded", root / "run").first_request


def test_the_first_request_sends_the_example(root: Path) -> None:
    a_model(root / "m", "transform.py", "seven.png", example="seven.png")
    sent = first_request(root, f"models: [m]\n{POOL}")
    assert sent == "curl -T m/seven.png http://127.0.0.1:8080/predictions/m"


def test_a_model_folder_may_lie_elsewhere(root: Path) -> None:
    a_model(root.parent / "m", "transform.py", "seven.png", example="seven.png")
    assert first_request(root, f"models: [{root.parent}/m]\n{POOL}").startswith("curl -T ../m/seven.png ")


def test_without_an_example_that_bytes_can_be_made_from_it_asks_what_the_model_takes(root: Path) -> None:
    a_model(root / "m", "transform.py")
    assert first_request(root, f"models: [m]\n{POOL}") == "curl http://127.0.0.1:8080/v2/models/m"
    a_model(root / "n", "seven.png", example="seven.png")
    assert first_request(root, f"models: [n]\n{POOL}") == "curl http://127.0.0.1:8080/v2/models/m"


def test_without_a_model_it_asks_who_is_there(root: Path) -> None:
    assert first_request(root, "") == "curl http://127.0.0.1:8080/v2"


def test_a_pool_that_does_not_fit_is_refused_before_anything_is_started(root: Path) -> None:
    a_model(root / "m")
    with pytest.raises(ConfigurationError, match=r"inferway\.yaml:3: pools\.0\.model: there is no 'mm'"):
        first_request(root, f"models: [m]\n{POOL.replace('model: m', 'model: mm')}")
