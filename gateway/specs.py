"""The parts of a contract: its tensors, its versions, and the variants that are built from them."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "BF16", "FP32", "FP64", "BYTES",
]  # fmt: skip
BackendKind = Literal["torchserve", "triton", "tfserving", "onnxruntime"]
"""The kinds of backend; `onnxruntime` is the one inside the gateway."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$", max_length=128)]
Version = Annotated[str, Field(pattern=r"^[1-9][0-9]*$")]
"""A version is a positive number in text: the one form that every backend can hold."""


class Section(BaseModel):
    """A frozen part of a configuration file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Padded(Section):
    """An axis along which items of different sizes are filled up to the longest of them.

    Attributes:
        axis: which one, counted without the batch axis.
        value: what fills it.
        maximum: the largest size that the model takes.
    """

    axis: Annotated[int, Field(ge=0)] = 0
    value: float = 0
    maximum: Annotated[int, Field(ge=1)]


class TensorSpec(Section):
    """One input or output.

    Attributes:
        name: the tensor's name.
        datatype: its OIP datatype.
        shape: its dimensions without the batch axis; -1 where any size will do.
        labels: what each entry of the last axis means, for classifiers.
        padded: for inputs: the axis of size -1 that may be filled up.
    """

    name: Name
    datatype: Datatype
    shape: tuple[int, ...]
    labels: tuple[str, ...] = ()
    padded: Padded | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(size == 0 or size < -1 for size in self.shape):
            raise ValueError("a dimension is a positive number, or -1 where any size will do")
        if self.labels and (not self.shape or self.shape[-1] != len(self.labels)):
            raise ValueError(f"{len(self.labels)} labels do not fit the last dimension of {list(self.shape)}")
        if self.padded and self.shape[self.padded.axis : self.padded.axis + 1] != (-1,):
            raise ValueError(f"the padded axis {self.padded.axis} of {list(self.shape)} is not of size -1")
        if self.padded and self.datatype in {"BYTES", "BF16"}:
            raise ValueError(f"{self.datatype} cannot be padded with a number")
        return self


class VariantSpec(Section):
    """One build of a version.

    Attributes:
        checkpoint: the weights that it is built from, relative to the model's folder; empty for one that is
            not built here.
        sha256: of the weights; part of the build digest, so that new weights never meet an old cache.
        unpublished: the backends that do not serve it, each with the reason.
    """

    checkpoint: str = ""
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    unpublished: Mapping[BackendKind, Annotated[str, Field(min_length=1)]] = {}


class VersionSpec(Section):
    """One version of a model.

    Attributes:
        variants: its builds by name, in order: the first is the default.
    """

    variants: Annotated[Mapping[Name, VariantSpec], Field(min_length=1)]

    @property
    def default_variant(self) -> str:
        """The variant that answers when the client names none."""
        return next(iter(self.variants))
