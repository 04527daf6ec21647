import json
from pathlib import Path

import pytest
import yaml

from models.evaluation import subject, verdicts
from models.evaluation.subject import EvaluationError
from tests.unit.models.evaluation import model_folder


def rows(folder: Path) -> list[verdicts.Row]:
    model = subject.of(folder.name, models=folder.parent)
    return verdicts.rows(model, json.loads((model.records / "evaluation.json").read_text()), {})


def test_a_loss_is_counted_against_the_first_variant(tmp_path: Path) -> None:
    fp32, int8 = rows(model_folder.write(tmp_path / "m", {"fp32": 0.96, "int8": 0.955}))
    assert fp32.loss == 0
    assert int8.loss == pytest.approx(0.005)
    assert int8.size_ratio == 2
    assert int8.margin == pytest.approx(1.96 * (0.955 * 0.045 / 400) ** 0.5)
    assert not fp32.misses
    assert not int8.misses


def test_what_the_gate_refuses_never_leads(tmp_path: Path) -> None:
    found = rows(model_folder.write(tmp_path / "m", {"fp32": 0.96, "int8": 0.955, "pruned": 0.93}))
    assert "at most 0.01 is allowed" in found[2].misses
    assert min(found, key=lambda row: row.size_bytes).name == "pruned"
    assert verdicts.headline(found).name == "int8"


def test_the_first_variant_leads_where_none_is_good_enough(tmp_path: Path) -> None:
    found = rows(model_folder.write(tmp_path / "m", {"fp32": 0.5, "int8": 0.5}))
    assert all(row.misses for row in found)
    assert verdicts.headline(found).name == "fp32"


@pytest.mark.parametrize(
    ("floors", "first", "expected"),
    [
        ({"accuracy": 0.9}, 0.95, 0.94),
        ({"accuracy": 0.9, "largest_loss": 0.02}, 0.95, 0.93),
        ({"accuracy": 0.9}, 0.905, 0.9),
        ({"agreement": 0.95}, 1.0, 0.95),
    ],
)
def test_the_floor_is_the_stricter_of_metric_and_loss(
    floors: dict[str, float], first: float, expected: float
) -> None:
    assert verdicts.floor_of({"floors": floors}, first) == pytest.approx(expected)


def test_a_checkpoint_that_the_contract_does_not_name_is_not_measured(tmp_path: Path) -> None:
    folder = model_folder.write(tmp_path / "m", {"fp32": 0.96})
    (folder / "versions/1/fp32.safetensors").write_bytes(b"other")
    with pytest.raises(EvaluationError, match=r"its sha256 is not the one in model\.yaml"):
        subject.of("m", models=tmp_path)


def test_a_variant_without_weights_of_its_own_is_not_measured(tmp_path: Path) -> None:
    contract = model_folder.write(tmp_path / "m", {"fp32": 0.96}) / "model.yaml"
    content = yaml.safe_load(contract.read_text())
    content["versions"]["1"]["variants"]["fp32"] = {}
    contract.write_text(yaml.safe_dump(content))
    with pytest.raises(EvaluationError, match="version 1 variant 'fp32': it is measured from a checkpoint"):
        subject.of("m", models=tmp_path)


def test_a_model_without_data_is_told_what_is_missing() -> None:
    with pytest.raises(EvaluationError, match=r"^models/compression/data\.py is not there: write it"):
        subject.test_split("compression")  # a folder with no model


def test_an_unknown_version_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    model_folder.write(tmp_path / "m", {"fp32": 0.96})
    with pytest.raises(EvaluationError, match="m has no version 7; it has 1"):
        subject.of("m", version="7", models=tmp_path)
