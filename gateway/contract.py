"""A model's contract: what `models/<name>/model.yaml` says, and the check of a request against it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from blake3 import blake3
from pydantic import Field, PrivateAttr, model_validator

from gateway.configuration import meant, misplaced
from gateway.errors import InvalidRequest, InvalidTensor
from gateway.inference import InferRequest, Tensor
from gateway.specs import Name, Section, TensorSpec, Version, VersionSpec

DIMENSION_LIMIT = 2**63
"""Every backend's messages hold a dimension as int64; JSON can spell larger ones."""
SHOWN_RANK = 16
"""A longer shape is told by its number of dimensions: it may have as many as a body has room for."""
FLOORS = ("accuracy", "r2", "agreement", "largest_loss")
"""The metrics that a floor may be for, and the largest loss of any of them against fp32."""


class CachePolicy(Section):
    """Whether and for how long answers are kept."""

    enabled: bool = True
    ttl_seconds: Annotated[float, Field(gt=0)] = 300.0


class Contract(Section):
    """What a client may send to a model and what it gets back."""

    name: Name
    description: str = ""
    task: Literal["classification", "regression"] = "classification"
    payload: Literal["file", "text", "json"] = "file"
    max_batch_size: Annotated[int, Field(ge=0)] = 0
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    example: str = ""
    default_version: Version
    labels: Mapping[Name, Version] = {}
    versions: Annotated[Mapping[Version, VersionSpec], Field(min_length=1)]
    floors: Mapping[str, float] = {}
    timeout_seconds: Annotated[float, Field(gt=0)] = 10.0
    cache: CachePolicy = CachePolicy()
    hedged: bool = True
    batched: bool = True
    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """Where the model's files lie."""
        return self._folder

    @model_validator(mode="after")
    def _check(self) -> Self:
        named: dict[tuple[str, ...], str] = {("default_version",): self.default_version}
        named |= {("labels", label): version for label, version in self.labels.items()}
        for place, version in named.items():
            if version not in self.versions:
                raise misplaced(f"there is no version '{version}'; {meant(version, self.versions)}", *place)
        for floor in self.floors:
            if floor not in FLOORS:
                raise misplaced(f"there is no such floor; {meant(floor, FLOORS)}", "floors", floor)
        for tensors in (self.inputs, self.outputs):
            if len({spec.name for spec in tensors}) < len(tensors):
                raise ValueError("two tensors have the same name")
        return self

    def full_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """The shape with the batch axis in front, -1 where any size will do."""
        return (-1, *spec.shape) if self.max_batch_size else spec.shape

    def build_digest(self, version: str, variant: str, file: bytes = b"") -> bytes:
        """16 bytes that change when weights, contract or variant do, and are equal across engines.

        Args:
            version: of the model.
            variant: of the version.
            file: the digest of what the embedded engine serves, where it is in the pool; nothing else would
                tell that the file was written over.
        """
        inputs, outputs = ([spec.model_dump() for spec in specs] for specs in (self.inputs, self.outputs))
        weights = self.versions[version].variants[variant].sha256
        text = repr((self.name, self.max_batch_size, inputs, outputs, version, variant, weights, file))
        return blake3(text.encode()).digest(16)

    def check(self, request: InferRequest) -> None:
        """See that the request fits.

        Raises:
            InvalidTensor: with the tensor's name, what was expected and what came.
        """
        for tensor in request.inputs:
            self.check_input(tensor.name, tensor.datatype, tensor.shape)
            tensor.check_length()
        if len(request.inputs) == 1 == len(self.inputs) and not request.outputs:
            return  # most requests; what is looked at below cannot be wrong with them
        sent = {tensor.name: tensor for tensor in request.inputs}
        if len(sent) < len(request.inputs):
            name = _repeated([tensor.name for tensor in request.inputs])
            raise InvalidTensor(name, expected="each input once", got="it twice")
        for spec in self.inputs:
            if spec.name not in sent:
                wanted = f"{spec.datatype} {list(self.full_shape(spec))}"
                raise InvalidTensor(spec.name, expected=wanted, got="nothing")
        batches = {spec.name: sent[spec.name].shape[0] for spec in self.inputs if self.max_batch_size}
        if len(set(batches.values())) > 1:
            name = self.inputs[-1].name
            raise InvalidTensor(name, expected="the same batch size for every input", got=str(batches))
        outputs = [spec.name for spec in self.outputs]
        for name in request.outputs:
            if name not in outputs:
                raise InvalidTensor(name, expected=f"the outputs {outputs}", got="an unknown output")
        if len(set(request.outputs)) < len(request.outputs):
            raise InvalidTensor(_repeated(request.outputs), expected="each output once", got="it twice")

    def check_input(self, name: str, datatype: str, shape: tuple[int, ...]) -> None:
        """See that an input may have this name, datatype and shape, whatever its data are.

        An edge asks before it makes data of the shape: a few bytes can promise a tensor that fills the
        memory, or so many dimensions that their product alone takes minutes.

        Raises:
            InvalidTensor: with the tensor's name, what was expected and what came.
        """
        for spec in self.inputs:
            if spec.name == name:
                break
        else:
            known = [each.name for each in self.inputs]
            raise InvalidTensor(name, expected=f"the inputs {known}", got="an unknown input")
        if datatype != spec.datatype:
            raise InvalidTensor(name, expected=f"datatype {spec.datatype}", got=datatype)
        expected = self.full_shape(spec)
        if not _fits(shape, expected):
            got = f"shape {list(shape)}" if len(shape) <= SHOWN_RANK else f"{len(shape)} dimensions"
            raise InvalidTensor(name, expected=f"shape {list(expected)}", got=got)
        if spec.padded:
            axis = spec.padded.axis + len(expected) - len(spec.shape)
            if not 1 <= shape[axis] <= spec.padded.maximum:
                most = f"1 to {spec.padded.maximum} along axis {axis}"
                raise InvalidTensor(name, expected=most, got=f"shape {list(shape)}")
        if self.max_batch_size and not 1 <= shape[0] <= self.max_batch_size:
            raise InvalidTensor(
                name, expected=f"a batch of 1 to {self.max_batch_size}", got=f"a batch of {shape[0]}"
            )

    def check_counts(self, *, inputs: int, outputs: int) -> None:
        """See that a request does not list far more tensors than there are, before a look at each.

        One that is not known, or is there twice, is better told by its name: so up to twice as many pass.

        Raises:
            InvalidRequest: with what was expected and what came.
        """
        for what, listed, known in (("inputs", inputs, self.inputs), ("outputs", outputs, self.outputs)):
            if listed > 2 * len(known):
                names = [spec.name for spec in known]
                raise InvalidRequest(f"{what}: expected {names}, got {listed} of them")

    def output_spec(self, name: str) -> TensorSpec:
        """The output of that name (KeyError when there is none)."""
        return {spec.name: spec for spec in self.outputs}[name]


def _fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    if len(shape) != len(expected):
        return False
    for size, want in zip(shape, expected, strict=True):
        if not 0 <= size < DIMENSION_LIMIT or want not in (-1, size):
            return False
    return True


def _repeated(names: Sequence[str]) -> str:
    return next(name for name in names if names.count(name) > 1)


def check_reply(contract: Contract, request: InferRequest, outputs: Sequence[Tensor]) -> None:
    """See that a backend's answer has the outputs asked for, of the contract's datatypes and shapes.

    Raises:
        InvalidTensor: with the output's name; the caller makes a `BadReply` of it.
    """
    batch = request.inputs[0].shape[:1] if contract.max_batch_size else ()
    wanted = request.outputs or tuple(spec.name for spec in contract.outputs)
    names = tuple(tensor.name for tensor in outputs)
    if names != wanted:
        raise InvalidTensor(names[0] if names else wanted[0], expected=f"outputs {wanted}", got=f"{names}")
    for tensor in outputs:
        spec = contract.output_spec(tensor.name)
        expected = (*batch, *spec.shape)
        fits = len(expected) == len(tensor.shape) and all(
            want in (-1, size) for size, want in zip(tensor.shape, expected, strict=True)
        )
        if tensor.datatype != spec.datatype or not fits:
            raise InvalidTensor(
                tensor.name,
                expected=f"{spec.datatype} {list(expected)}",
                got=f"{tensor.datatype} {list(tensor.shape)}",
            )
        tensor.check_length()
