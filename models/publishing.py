"""Makes one artifact: export, ask it for the fixed examples, and refuse it where it is not good enough.

Every function writes to the path that it is given and returns what the manifest says of the artifact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.backends import engine_model_name
from gateway.contract import Contract
from models import gate, manifest, parity, samples
from models.processes import ROOT, BuildError, run
from services.tensorrt import repository

ANSWERS = "answers.npy"
"""What an ONNX file answers to the examples, beside it: float32 [N, ...]."""


@dataclass(frozen=True, slots=True)
class Build:
    """One variant of one version of a model, and where it is built.

    Attributes:
        model: the model's folder.
        contract: what its model.yaml says.
        version: the version.
        variant: the variant.
        out: the output folder.
        scratch: a folder for what several artifacts of a run share.
    """

    model: Path
    contract: Contract
    version: str
    variant: str
    out: Path
    scratch: Path

    @property
    def engine_name(self) -> str:
        """The name under which every engine holds it."""
        return engine_model_name(self.contract.name, self.variant)

    @property
    def checkpoint(self) -> Path:
        """The weights that it is made from."""
        return self.model / self.contract.versions[self.version].variants[self.variant].checkpoint

    @property
    def is_int8(self) -> bool:
        """Whether it is exported by the forms that quantize."""
        return self.variant.endswith("int8")

    @property
    def onnx(self) -> Path:
        """The folder of its ONNX file."""
        return self.out / "onnx" / self.engine_name / self.version

    @property
    def reference(self) -> Path:
        """The folder of fp32's ONNX file."""
        return self.out / "onnx" / self.contract.name / self.version

    def has_form(self, form: str) -> bool:
        """Whether the model's export.py names the form; it is not imported, for it needs a framework."""
        return self.is_int8 and f'"{form}"' in (self.model / "export.py").read_text(encoding="utf-8")

    def export(self, form: str, environment: str, out: Path) -> dict[str, Any]:
        """Have the model write itself to `out` as `form`, in that environment; what its manifest says."""
        module = ["-m", f"models.{self.model.name}.export", form]
        weights = self.checkpoint.relative_to(ROOT)
        run(environment, "python", *module, "--weights", str(weights), "--out", str(out))
        command = f"python {' '.join(module)} --weights {weights} --out {out.name}"
        return {
            **manifest.identity(self.contract, self.version, self.variant),
            "form": form,
            "command": command,
        }

    def ask(self, kind: str, environment: str, form: Path) -> NDArray[np.float32]:
        """What a form answers to the fixed examples in its environment, float32 [N, ...]."""
        examples, answers = self.scratch / f"{self.model.name}.npz", form.parent / ANSWERS
        if not examples.exists():
            folder = str(self.model.relative_to(ROOT))
            run("models", "python", "-m", "models.examples", "--model", folder, "--out", str(examples))
        options = [
            "--inputs",
            str(examples),
            "--output",
            self.contract.outputs[0].name,
            "--out",
            str(answers),
        ]
        run(environment, "python", "-m", "models.parity", kind, str(form), *options)
        found: NDArray[np.float32] = np.load(answers)
        return found

    def compare(self, kind: str, environment: str, form: Path) -> dict[str, Any]:
        """Parity of a form with this variant's ONNX file, for the manifest.

        Raises:
            Refused: it answers something else.
        """
        found = parity.compare(self.ask(kind, environment, form), np.load(self.onnx / ANSWERS))
        has_labels = self.contract.task == "classification"
        known = manifest.read(self.onnx)
        return {
            "metrics": known["metrics"],
            "parity": parity.check(found, is_fp32=self.variant == "fp32", has_labels=has_labels),
        }

    def judge(self, answers: NDArray[np.float32]) -> dict[str, Any]:
        """The metrics of answers to the fixed examples, for the manifest.

        Raises:
            Refused: they are not good enough.
        """
        reference = answers if self.variant == "fp32" else np.load(self.reference / ANSWERS)
        labels = samples.read(self.model / "examples.zip").labels
        return {"metrics": gate.judge_examples(self.contract.floors, answers, reference, labels)}


def onnx(build: Build, out: Path) -> dict[str, Any]:
    """A folder with model.onnx, judged on the examples."""
    out.mkdir()
    made = build.export("onnx_int8" if build.is_int8 else "onnx", "models", out / "model.onnx")
    return {**made, **build.judge(build.ask("onnx", "models", out / "model.onnx"))}


def onnx_tensorrt(build: Build, out: Path) -> dict[str, Any]:
    """A folder with the model.onnx that TensorRT quantizes by; judged by what its graph says."""
    out.mkdir()
    made = build.export("onnx_int8_tensorrt", "models", out / "model.onnx")
    answers = build.ask("onnx_tensorrt", "models", out / "model.onnx")
    likeness = parity.compare(answers, np.load(build.onnx / ANSWERS))
    return {**made, **build.judge(answers), "label_agreement": likeness.label_agreement}


def archive(build: Build, out: Path) -> dict[str, Any]:
    """A .mar for TorchServe."""
    network = out.parent / f"{build.engine_name}.pt"
    made = build.export("torchscript_int8" if build.is_int8 else "torchscript", "models", network)
    compared = build.compare("torchscript", "torchserve", network)
    service = ROOT / "services" / "torchserve"
    packed = out.parent / "packed"
    packed.mkdir()
    run(
        "torchserve",
        "torch-model-archiver",
        *("--model-name", build.engine_name, "--version", build.version),
        *("--serialized-file", str(network), "--handler", str(service / "handler.py")),
        *("--extra-files", str(build.model / "model.yaml")),
        *("--config-file", str(service / "model-config.yaml"), "--export-path", str(packed)),
    )
    (packed / f"{build.engine_name}.mar").rename(out)
    return {**made, **compared}


def tensorflow(build: Build, out: Path) -> dict[str, Any]:
    """A version's folder for TF Serving: a SavedModel, or model.tflite of an int8 variant."""
    form, kind = ("litert_int8", "litert") if build.is_int8 else ("savedmodel", "savedmodel")
    made = build.export(form, "tensorflow", out)
    return {**made, **build.compare(kind, "tensorflow", out)}


def triton(builds: Sequence[Build], out: Path) -> Mapping[str, Any]:
    """Triton's folder of a variant, all versions; its files are the ONNX files, which were judged."""
    first = builds[0]
    builds = [build for build in builds if (build.onnx / "model.onnx").is_file()]
    rendered = out.parent / "rendered"
    try:
        repository.render(first.model, first.out / "onnx", "python", rendered, variants=[first.variant])
    except repository.RepositoryError as error:
        raise BuildError(str(error)) from error
    (rendered / first.engine_name).rename(out)
    versions = {
        build.version: manifest.identity(build.contract, build.version, build.variant) for build in builds
    }
    metrics = {build.version: manifest.read(build.onnx)["metrics"] for build in builds}
    return {
        "model": first.contract.name,
        "variant": first.variant,
        "form": "onnx",
        "versions": versions,
        "metrics": metrics,
    }
