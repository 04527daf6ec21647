"""Loading a model's transform.py."""

from pathlib import Path

import numpy as np
import pytest

from gateway.configuration import ConfigurationError
from gateway.loading import load_contracts
from gateway.settings import Settings
from gateway.transforms import ModelCode, example_inputs, load_transform

TRANSFORM = """
import numpy as np

def to_inputs(payload):
    return {"length": np.array([len(payload)])}

def to_answer(outputs):
    return {"sum": float(outputs["sum"][0])}
"""

REFUSES = TRANSFORM.replace("return {", "raise ValueError('no image')\n    return {")
CONTRACT = """
name: m
inputs: [{name: length, datatype: INT64, shape: []}]
outputs: [{name: sum, datatype: FP32, shape: []}]
example: words.txt
default_version: "1"
versions: {"1": {variants: {a: {checkpoint: w, sha256: "HASH"}}}}
""".replace("HASH", "0" * 64)


def write(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "transform.py").write_text(text)
    return folder


def test_a_model_without_a_transform_has_none(tmp_path: Path) -> None:
    assert load_transform(tmp_path) is None


def test_a_transform_turns_bytes_into_tensors_and_tensors_into_an_answer(tmp_path: Path) -> None:
    transform = load_transform(write(tmp_path, TRANSFORM))
    assert transform is not None
    assert transform.to_inputs(b"abc")["length"] == 3
    assert transform.to_answer({"sum": np.array([2.5])}) == {"sum": 2.5}


def test_two_models_never_share_a_transform(tmp_path: Path) -> None:
    one = load_transform(write(tmp_path / "one", TRANSFORM))
    other = load_transform(write(tmp_path / "other", TRANSFORM.replace("len(payload)", "7")))
    assert one is not None
    assert other is not None
    assert one.to_inputs(b"")["length"] == 0
    assert other.to_inputs(b"")["length"] == 7


def test_a_transform_that_breaks_on_import_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be imported: ZeroDivisionError"):
        load_transform(write(tmp_path, "1 / 0"))
    with pytest.raises(ConfigurationError, match="cannot be imported: SyntaxError"):
        load_transform(write(tmp_path, "def"))


@pytest.mark.parametrize("missing", ["to_inputs", "to_answer"])
def test_a_transform_that_lacks_a_function_is_refused_when_it_is_loaded(tmp_path: Path, missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"there is no function '{missing}'"):
        load_transform(write(tmp_path, TRANSFORM.replace(missing, "renamed")))


def test_an_example_that_the_transform_refuses_is_a_configuration_that_cannot_be_used(tmp_path: Path) -> None:
    (write(tmp_path, REFUSES) / "words.txt").write_text("words")
    (tmp_path / "model.yaml").write_text(CONTRACT)
    contract = load_contracts(Settings(models=("",)), tmp_path)["m"]
    with pytest.raises(ConfigurationError, match=r"words\.txt: the example of model 'm' is refused: no"):
        example_inputs(contract, load_transform(tmp_path))


def test_what_has_not_changed_is_not_loaded_again(tmp_path: Path) -> None:
    def loaded(known: ModelCode | None = None) -> ModelCode:
        return ModelCode.load(load_contracts(Settings(models=("m",)), tmp_path)["m"], known)

    folder = write(tmp_path / "m", TRANSFORM)
    (folder / "model.yaml").write_text(CONTRACT)
    (folder / "words.txt").write_text("abc")
    first = loaded()
    assert loaded(first) is first
    (folder / "words.txt").write_text("abcd")
    second = loaded(first)
    assert [code.example[0].numpy().item() for code in (first, second)] == [3, 4]
    write(folder, TRANSFORM.replace("len(payload)", "77"))
    third = loaded(second)
    assert third.example[0].numpy().item() == 77
    (folder / "vocab.txt").write_text("what the transform may read")
    fourth = loaded(third)
    assert fourth.transform is not third.transform
    (folder / "model.yaml").write_text(
        CONTRACT.replace("shape: []", "shape: [1]", 1).replace("words.txt", '""')
    )
    assert loaded(fourth).example == ()
