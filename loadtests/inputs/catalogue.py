"""The inputs of one model, numbered: its examples as they are, then variations of them without end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from loadtests.inputs import variations
from loadtests.inputs.questions import Question, Right
from models import samples

ROOT = Path(__file__).parents[2]
REFERENCES = ROOT / "build" / "models" / "onnx"
"""Where `make models` lays what each ONNX file answered to the examples: <model>/<version>/answers.npy."""
EXACT_TOLERANCE = 1e-3
"""For an example as it is: ten times of what engines of one pool may differ by (models/parity.py)."""
KEPT = 64
"""Questions that are kept ready; a photo's tensor is 600 KB, its file 200 KB."""


@dataclass(frozen=True, slots=True)
class Variety:
    """How a model's examples are varied.

    Attributes:
        vary: makes another payload of one, for a mark.
        tolerance: how far the answer to a variation may be from that to its example. Each is over twice the
            most that was seen in 58 to 1,370 draws; of bert_chinese's, which change the text, it still says
            that a label of over 90 % stays.
    """

    vary: Callable[[bytes, int], bytes]
    tolerance: float


VARIETIES: Mapping[str, Variety] = {
    "cnn_mnist": Variety(variations.picture, 0.05),
    "bert_chinese": Variety(variations.sentence, 0.4),
    "mobilenet_v2": Variety(variations.picture, 0.2),
    "efficientnet_lite0": Variety(variations.picture, 0.02),
    "diamonds": Variety(variations.diamond, 0.02),
}
"""By model: every one that has a contract."""


class Catalogue:
    """A model's questions, by index.

    Args:
        model: a key of VARIETIES.
        seed: other variations for another one.
        references: a folder as REFERENCES; of a model without any only the form of the answers is checked.

    Raises:
        ValueError: there is no such model.
    """

    def __init__(self, model: str, seed: int, references: Path = REFERENCES) -> None:
        if model not in VARIETIES:
            raise ValueError(f"expected models of {', '.join(VARIETIES)}, got '{model}'")
        spec = yaml.safe_load((ROOT / "models" / model / "model.yaml").read_text())
        self.model = model
        self._variety = VARIETIES[model]
        self._seed = seed
        self._transform = import_module(f"models.{model}.transform")
        self._payloads = samples.read(ROOT / "models" / model / "examples.zip").payloads
        output = spec["outputs"][0]
        self._output: str = output["name"]
        self._labels: list[str] = output.get("labels", [])
        self._size = int(np.prod(output["shape"]))
        path = references / model / spec["default_version"] / "answers.npy"
        self._answers: NDArray[np.float32] | None = np.load(path) if path.exists() else None
        self.question = lru_cache(KEPT)(self._question)

    @property
    def examples(self) -> int:
        """How many examples there are: the indices below stand for them as they are."""
        return len(self._payloads)

    @property
    def has_references(self) -> bool:
        """Whether the right answers are known."""
        return self._answers is not None

    def _question(self, index: int) -> Question:
        """The question of that index; the first ones are the examples as they are."""
        variation, example = divmod(index, len(self._payloads))
        payload = self._payloads[example]
        if variation:
            payload = self._variety.vary(payload, mark(self._seed, index))
        inputs = {name: value[None] for name, value in self._transform.to_inputs(payload).items()}
        tolerance = self._variety.tolerance if variation else EXACT_TOLERANCE
        return Question(self.model, payload, inputs, self._right(example, tolerance))

    def _right(self, example: int, tolerance: float) -> Right:
        values = None if self._answers is None else self._answers[example].reshape(-1)
        named: Mapping[str, Any] = {}
        if values is not None:
            # transform.py may name the likeliest only: a gateway's may be others, where two are near
            labelled = dict(zip(self._labels, values.tolist(), strict=True)) if self._labels else {}
            named = labelled or self._transform.to_answer({self._output: values})
        return Right(self._size, bool(self._labels), values, named, tolerance)


def mark(seed: int, index: int) -> int:
    """The mark of a question: another one for each index, since some examples are equal, and each seed."""
    return (seed * variations.GOLDEN + index) % (1 << variations.MARK_BITS)
