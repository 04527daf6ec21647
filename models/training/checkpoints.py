"""Checkpoints as they are committed: safetensors in half precision, with the history of the training."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.training.loop import History


def save(network: nn.Module, path: Path, history: History | None = None) -> None:
    """Write the weights as float16 and the history to `history_<stem>.json`; print the sha256.

    A value beyond float16's range would become infinite: that is an error.

    Raises:
        ValueError: a weight is not finite in half precision.
    """
    state = {name: value.detach().half().contiguous() for name, value in network.state_dict().items()
             if value.is_floating_point()}  # fmt: skip
    if bad := [name for name, value in state.items() if not torch.isfinite(value).all()]:
        raise ValueError(f"not finite in half precision: {', '.join(bad)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
    path.chmod(0o644)  # safetensors makes it readable for its owner alone
    if history:
        path.with_name(f"history_{path.stem}.json").write_text(json.dumps(asdict(history), indent=1) + "\n")
    print(f"wrote {path}\n  sha256: {hashlib.sha256(path.read_bytes()).hexdigest()}")


def load(path: Path) -> dict[str, Tensor]:
    """The weights as float32."""
    state: dict[str, Tensor] = load_file(path)
    return {name: value.float() for name, value in state.items()}
