"""Writes a model's fixed examples as tensors: `python -m models.examples --model FOLDER --out FILE`.

The file is a .npz of batches, made as the gateway makes them (padded axes to the longest of the batch), so
that an environment without Pillow or tokenizers can ask a form: `<batch>/<input>` for each input in the
contract's order, and `<batch>/rows`, which examples they are.
"""

import argparse
import zipfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from models import samples
from models.evaluation.answers import stack
from models.exporting import contract
from models.parity import ROWS

LARGEST_BATCH = 32


def write(model: Path, out: Path) -> None:
    """Write the examples of a model's folder, which lies in the package `models`."""
    spec = contract(model)
    to_inputs = import_module(f"models.{model.name}.transform").to_inputs
    items = [to_inputs(payload) for payload in samples.read(model / "examples.zip").payloads]
    padded = {tensor["name"]: tensor["padded"] for tensor in spec["inputs"] if tensor.get("padded")}
    order = np.argsort([sum(value.size for value in item.values()) for item in items], kind="stable")
    size = min(LARGEST_BATCH, spec["max_batch_size"])
    with zipfile.ZipFile(out, "w") as archive:  # as np.savez does, without all of it in memory at once
        for batch, start in enumerate(range(0, len(order), size)):
            rows = order[start : start + size]
            tensors = stack([items[row] for row in rows], padded)
            for name in (*(tensor["name"] for tensor in spec["inputs"]), ROWS):
                with archive.open(f"{batch:04d}/{name}.npy", "w", force_zip64=True) as file:
                    value = rows if name == ROWS else tensors[name]
                    np.lib.format.write_array(file, np.ascontiguousarray(value))


def main(argv: Sequence[str] | None = None) -> None:
    """Write one model's examples."""
    parser = argparse.ArgumentParser(prog="python -m models.examples", description=main.__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's folder")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    options = parser.parse_args(argv)
    write(options.model, options.out)


if __name__ == "__main__":
    main()
