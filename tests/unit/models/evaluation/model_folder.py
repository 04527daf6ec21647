"""A model's folder with made-up records, as the report and the verdicts read it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def write(folder: Path, scores: Mapping[str, float], *, metric: str = "accuracy", floor: float = 0.9) -> Path:
    """The folder of a model with one variant for each score; pruned ones are half as large."""
    records = folder / "versions" / "1"
    records.mkdir(parents=True)
    contract: dict[str, Any] = {
        "name": folder.name,
        "description": "Which <side> wins & loses.",
        "default_version": "1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "labels": ["left", "right"]}],
        "versions": {"1": {"variants": {}}},
        "floors": {metric: floor},
    }
    kept = {}
    for i, (name, score) in enumerate(scores.items(), 1):
        checkpoint = records / f"{name}.safetensors"
        checkpoint.write_bytes(name.encode())
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        contract["versions"]["1"]["variants"][name] = {
            "checkpoint": f"versions/1/{checkpoint.name}",
            "sha256": sha256,
            "unpublished": {"torchserve": "it has no kernels"} if name == "int8" else {},
        }
        kept[name] = {"sha256": sha256, "metrics": {metric: score}, "size_bytes": 8000 // i, "parameters": 10}
    (folder / "model.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))
    evaluation = {"date": "2026-11-24", "test": {"count": 400, "sha256": "0" * 64}, "variants": kept}
    (records / "evaluation.json").write_text(json.dumps(evaluation))
    return folder
