"""A variant with damaged weights, planted with care, is refused by the real build, and nothing else is.

It runs in a copy of the repository, with the environments of this one.
"""

import hashlib
import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import yaml

from models.processes import ROOT

COPIED = ("models", "gateway", "services", "requirements", "pyproject.toml")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venvs").symlink_to(ROOT / ".venvs")
    return tmp_path


def damaged(checkpoint: bytes) -> bytes:
    """A checkpoint whose second half of weights is zeros; its header still describes it."""
    (header,) = struct.unpack("<Q", checkpoint[:8])
    middle = 8 + header + (len(checkpoint) - 8 - header) // 2
    return checkpoint[:middle] + bytes(len(checkpoint) - middle)


def plant(tree: Path) -> Path:
    """Add the variant `planted`: wrong weights, their right sha256, and a record that praises them."""
    model = tree / "models" / "cnn_mnist"
    contract = yaml.safe_load((model / "model.yaml").read_text())
    variants = contract["versions"]["1"]["variants"]
    fp32 = variants["fp32"]
    weights = damaged((model / fp32["checkpoint"]).read_bytes())
    (model / "versions/1/planted.safetensors").write_bytes(weights)
    sha256 = hashlib.sha256(weights).hexdigest()
    contract["versions"]["1"]["variants"] = {
        "fp32": fp32,
        "planted": {"checkpoint": "versions/1/planted.safetensors", "sha256": sha256},
    }
    (model / "model.yaml").write_text(yaml.safe_dump(contract))
    metrics = {"accuracy": 0.999}
    record = model / "versions/1/evaluation.json"
    good = {"fp32": fp32["sha256"], "planted": sha256}
    record.write_text(
        json.dumps(
            {"variants": {name: {"sha256": known, "metrics": metrics} for name, known in good.items()}}
        )
    )
    return record


def build(tree: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [tree / ".venvs/gateway/bin/python", "-m", "models.build", "--model=cnn_mnist", "--form=onnx"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_damaged_weights_are_refused_even_when_every_hash_and_record_is_forged(tree: Path) -> None:
    record = plant(tree)
    code, said = build(tree)
    assert code == 1
    assert said[0].startswith("[1/2] onnx/cnn_mnist/1: built in ")
    assert said[1].startswith("[2/2] onnx/cnn_mnist-planted/1: refused: accuracy 0.")
    assert (tree / "build/models/onnx/cnn_mnist/1/model.onnx").is_file()
    assert not (tree / "build/models/onnx/cnn_mnist-planted/1").exists()

    forged = json.loads(record.read_text())
    forged["variants"]["planted"]["sha256"] = "0" * 64
    record.write_text(json.dumps(forged))
    code, said = build(tree)
    assert code == 1
    assert said == [
        "[1/2] onnx/cnn_mnist/1: up to date",
        (
            "[2/2] onnx/cnn_mnist-planted/1: refused: evaluation.json is of other weights of planted than "
            "model.yaml names: run `make eval MODEL=cnn_mnist`"
        ),
    ]
