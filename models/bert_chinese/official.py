"""Google's own bert-base-chinese (Apache-2.0), for who can reach the hub that it lies on.

    .venvs/models/bin/python -m models.bert_chinese.official model.safetensors --out official.safetensors

renames the weights of the hub's file to those of this folder; `train.py --start official.safetensors` then
tunes all its 12 layers, and everything else (compress, export, evaluation) is the same.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

PARTS = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "join",
    "attention.output.LayerNorm": "join_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "down_norm",
}
LAYER = re.compile(r"encoder\.layer\.(?P<number>\d+)\.(?P<part>.+)\.(?P<kind>weight|bias|gamma|beta)")
KINDS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
"""Old files call a norm's weight gamma and its bias beta."""


def renamed(state: Mapping[str, Tensor], positions: int = 256) -> dict[str, Tensor]:
    """The weights under this folder's names, with a classifier that is still to be trained.

    Args:
        state: as the hub has them, with or without the prefix `bert.`.
        positions: how many of the 512 stay.

    Raises:
        KeyError: it is not a BERT's.
    """
    names = {name.removeprefix("bert."): value.float() for name, value in state.items()}
    prefix = "embeddings"
    types = names[f"{prefix}.token_type_embeddings.weight"]
    found = {
        "word.weight": names[f"{prefix}.word_embeddings.weight"],
        "position.weight": (names[f"{prefix}.position_embeddings.weight"] + types[0])[:positions],
    }
    for name, value in names.items():
        if name.startswith(f"{prefix}.LayerNorm."):
            found[f"norm.{KINDS[name.rpartition('.')[2]]}"] = value
        elif match := LAYER.fullmatch(name):
            part, kind = PARTS[match["part"]], KINDS[match["kind"]]
            found[f"layers.{match['number']}.{part}.{kind}"] = value
    found["classify.weight"] = torch.zeros(2, found["norm.bias"].shape[0])
    found["classify.bias"] = torch.zeros(2)
    return {name: value.contiguous() for name, value in found.items()}


def main() -> None:
    """Rename the weights of a file."""
    parser = argparse.ArgumentParser(prog="python -m models.bert_chinese.official", description=main.__doc__)
    parser.add_argument("file", type=Path, help="model.safetensors of bert-base-chinese")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    save_file(renamed(load_file(options.file)), options.out)


if __name__ == "__main__":
    main()
