"""What a server says that a model takes and gives, held against the contract before it takes traffic."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gateway.backends import CannotServe
from gateway.configuration import meant
from gateway.contract import Contract
from gateway.specs import TensorSpec


@dataclass(frozen=True, slots=True)
class ServedTensor:
    """One input or output, as a server tells of it.

    Attributes:
        name: its name.
        datatype: its OIP datatype; the server's own word where there is none.
        shape: with the batch axis, -1 where any size will do; None where the server does not say.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None

    def __str__(self) -> str:
        return f"{self.datatype} {'of any shape' if self.shape is None else list(self.shape)}"


def check_served(
    contract: Contract,
    inputs: Iterable[ServedTensor],
    outputs: Iterable[ServedTensor],
    *,
    where: str,
    max_batch_size: int = 0,
) -> None:
    """See that a server serves what the contract says; it may give more outputs.

    Args:
        contract: of the model.
        inputs: what the server takes, less what it can do without and the contract does not have.
        outputs: what it gives.
        where: the file or the server, for the message.
        max_batch_size: the largest batch that the server takes; 0 where it does not say.

    Raises:
        CannotServe: with a line for each tensor that does not fit.
    """
    problems = [
        *_problems(contract, "input", contract.inputs, [*inputs], is_whole=True),
        *_problems(contract, "output", contract.outputs, [*outputs], is_whole=False),
    ]
    if 0 < max_batch_size < contract.max_batch_size:
        contract_file = contract.folder / "model.yaml"
        problems.append(
            f"batches: up to {max_batch_size} here, and max_batch_size {contract.max_batch_size}"
            f" in {contract_file}"
        )
    if problems:
        raise CannotServe("\n".join(f"{where}: {problem}" for problem in problems))


def _problems(
    contract: Contract, kind: str, specs: Sequence[TensorSpec], served: Sequence[ServedTensor], is_whole: bool
) -> Iterator[str]:
    contract_file = contract.folder / "model.yaml"
    has = {tensor.name: tensor for tensor in served}
    for spec in specs:
        tensor = has.pop(spec.name, None)
        if tensor is None:
            mend = meant(spec.name, [each.name for each in served])
            yield f"{kind} '{spec.name}': it is in {contract_file}, and not here; {mend}"
        elif tensor.datatype != spec.datatype or not _fits(contract, spec, tensor.shape):
            wanted = f"{spec.datatype} {list(contract.full_shape(spec))}"
            batch = f"max_batch_size {contract.max_batch_size}"
            yield f"{kind} '{spec.name}': it is {tensor} here, and {wanted} ({batch}) in {contract_file}"
    if is_whole:
        for tensor in has.values():
            yield f"{kind} '{tensor.name}': it is {tensor} here, and not in {contract_file}; add it"


def _fits(contract: Contract, spec: TensorSpec, shape: tuple[int, ...] | None) -> bool:
    wanted = contract.full_shape(spec)
    if shape is None:
        return True
    if len(shape) != len(wanted) or any(
        -1 not in {want, size} and want != size for want, size in zip(wanted, shape, strict=True)
    ):
        return False
    # A batch axis of fixed size takes no batch of another.
    return not contract.max_batch_size or shape[0] == -1 or shape[0] == contract.max_batch_size == 1
