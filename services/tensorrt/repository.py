"""Renders Triton's model repository from models' contracts: `python -m services.tensorrt.repository --help`.

One template serves every place: platform `python` (any machine; `onnx_model.py` runs ONNX Runtime),
`onnxruntime` (NVIDIA's image without a GPU), `tensorrt_plan` (NVIDIA's image on a GPU; the plan is built on
the spot, since it fits only the GPU and the TensorRT that built it). It writes:

    OUT/cnn_mnist/                 one folder a variant: `cnn_mnist` for fp32, else `cnn_mnist-<variant>`
        config.pbtxt
        probabilities_labels.txt   for the classification extension, where the contract has labels
        1/                         one folder a version
            model.onnx, model.py   (model.onnx alone, or model.plan)

The ONNX files are those that `make models` published, in folders of the same names: build/models/onnx.
TensorRT takes the file of build/models/onnx-tensorrt where there is one: int8 in the form that it can read.

It needs only PyYAML, so that it runs in NVIDIA's image as it is.
"""

import argparse
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from services.tensorrt import plan
from services.tensorrt.pbtxt import PLATFORMS, config, label_file, padded_axes

DEFAULT_VARIANT = "fp32"
ENGINE = "triton"
"""Its name under `unpublished` in a contract."""


class RepositoryError(ValueError):
    """The contract cannot be rendered; the text is one line for a person."""


def render(
    model: Path, onnx_repository: Path, platform: str, out: Path, *, variants: Collection[str] = ()
) -> list[str]:
    """Write the variants of one model under `out`; what lay there under the same names is replaced.

    A variant that the contract does not publish in Triton is left out, and so is one that is not in the ONNX
    repository: it was not published at all.

    Args:
        model: the model's folder, with its `model.yaml`.
        onnx_repository: holds `<Triton's name>/<version>/model.onnx`.
        platform: a key of `pbtxt.PLATFORMS`.
        out: the repository.
        variants: only these; empty: all.

    Returns:
        The names that Triton will know, for `--load-model`.

    Raises:
        RepositoryError: a file is missing, or Triton cannot hold what the contract says.
        plan.PlanError: TensorRT refused a network (platform `tensorrt_plan`); the other variants are there.
    """
    path = model / "model.yaml"
    if not path.is_file():
        raise RepositoryError(f"{path} does not exist")
    contract = yaml.safe_load(path.read_text(encoding="utf-8"))
    for spec in (*contract["inputs"], *contract["outputs"]):
        if not spec["shape"]:
            raise RepositoryError(
                f"tensor '{spec['name']}': Triton needs at least one dimension beside the batch"
            )
    names, refused = [], []
    for variant, files in _onnx_files(contract, onnx_repository, platform).items():
        if variants and variant not in variants:
            continue
        name = engine_model_name(contract["name"], variant)
        try:
            _write(contract, name, files, platform, out)
        except plan.PlanError as error:
            shutil.rmtree(out / name)
            refused.append(str(error))
        else:
            names.append(name)
    if refused:
        raise plan.PlanError("; ".join(refused))
    if not names:
        raise RepositoryError(
            f"{onnx_repository} has nothing of model '{contract['name']}': run `make models`"
        )
    return names


def engine_model_name(model: str, variant: str) -> str:
    """The name under which Triton holds one variant: the gateway's rule (a test holds the two equal)."""
    return model if variant == DEFAULT_VARIANT else f"{model}-{variant}"


def _onnx_files(contract: Mapping[str, Any], repository: Path, platform: str) -> dict[str, dict[str, Path]]:
    """The ONNX file by variant and version, of what is published here and is there."""
    repositories = [repository]
    if platform == "tensorrt_plan":
        repositories.insert(0, repository.with_name(f"{repository.name}-tensorrt"))
    files: dict[str, dict[str, Path]] = {}
    for version, versions in contract["versions"].items():
        for variant, spec in versions["variants"].items():
            if ENGINE in spec.get("unpublished", ()):
                continue
            file = Path(engine_model_name(contract["name"], variant), str(version), "model.onnx")
            found = next((folder / file for folder in repositories if (folder / file).is_file()), None)
            if found:
                files.setdefault(variant, {})[str(version)] = found
    return files


def _write(
    contract: Mapping[str, Any], name: str, files: Mapping[str, Path], platform: str, out: Path
) -> None:
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config(contract, name, platform))
    for spec in contract["outputs"]:
        if labels := spec.get("labels"):
            (folder / label_file(spec)).write_text("".join(f"{label}\n" for label in labels))
    for version, onnx in files.items():
        target = folder / version
        target.mkdir()
        if platform == "tensorrt_plan":
            batch, axes = contract["max_batch_size"], padded_axes(contract)
            plan.build(onnx, target / "model.plan", max_batch_size=batch, padded=axes)
            continue
        shutil.copyfile(onnx, target / "model.onnx")
        if platform == "python":
            shutil.copyfile(Path(__file__).with_name("onnx_model.py"), target / "model.py")


def main(argv: Sequence[str] | None = None) -> int:
    """Render; print the folders written. Exit code 1, and a line for each model that had a failure."""
    parser = argparse.ArgumentParser(prog="python -m services.tensorrt.repository", description=main.__doc__)
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="model folders")
    parser.add_argument("--onnx", type=Path, default=Path("build/models/onnx"), help="the ONNX repository")
    parser.add_argument("--platform", choices=PLATFORMS, default="python", help="who runs the model")
    parser.add_argument("--out", type=Path, required=True, help="the repository's folder")
    options = parser.parse_args(argv)
    failures = 0
    for model in options.models:
        try:
            for name in render(model, options.onnx, options.platform, options.out):
                sys.stdout.write(f"{options.out / name}\n")
        except (RepositoryError, plan.PlanError) as error:
            sys.stderr.write(f"{error}\n")
            failures += 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
