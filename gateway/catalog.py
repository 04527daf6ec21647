"""Which models there are, and what a client's name for one of them means."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.contract import Contract
from gateway.errors import ModelNotFound, VersionNotFound
from gateway.inference import PoolKey
from gateway.transforms import Transform


@dataclass(frozen=True, slots=True)
class Catalog:
    """The models that are served.

    Attributes:
        contracts: by model name.
        transforms: the models that take images or text on `/predictions`, by model name.
        passthrough: models without a contract, whose bytes go to TorchServe and back unchanged.
        moved_labels: by model name, labels that stand elsewhere than in the contract; see `move_label`.
        files: the digests of the files that the embedded engine serves, by what it serves from each.
    """

    contracts: Mapping[str, Contract]
    transforms: Mapping[str, Transform] = field(default_factory=dict)
    passthrough: frozenset[str] = frozenset()
    moved_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    files: Mapping[PoolKey, bytes] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Every model that can be asked for, in order of name."""
        return sorted({*self.contracts, *self.passthrough})

    def contract(self, model: str) -> Contract:
        """The contract of a model.

        Raises:
            ModelNotFound: there is none of that name.
        """
        contract = self.contracts.get(model)
        if contract is None:
            raise ModelNotFound(model)
        return contract

    def labels(self, model: str) -> Mapping[str, str]:
        """The versions that a model's labels stand for now.

        Raises:
            ModelNotFound: no such model.
        """
        return {**self.contract(model).labels, **self.moved_labels.get(model, {})}

    def move_label(self, model: str, label: str, version: str) -> None:
        """Let a label stand for `version` from now on; a new one is made.

        Raises:
            ModelNotFound: no such model.
            VersionNotFound: no such version.
        """
        self.moved_labels.setdefault(model, {})[label] = self.version(model, version=version)

    def version(self, model: str, *, version: str = "", label: str = "") -> str:
        """The concrete version that a version, a label, or neither stands for.

        Raises:
            ModelNotFound: no such model.
            VersionNotFound: no such version or label.
        """
        contract = self.contract(model)
        if label:
            labels = self.labels(model)
            if label not in labels:
                raise VersionNotFound(model, "label", label, sorted(labels))
            return labels[label]
        concrete = version or contract.default_version
        if concrete not in contract.versions:
            raise VersionNotFound(model, "version", version, sorted(contract.versions, key=int))
        return concrete

    def variant(self, model: str, version: str, variant: str = "") -> str:
        """The concrete variant of a concrete version.

        Raises:
            VersionNotFound: the version has no such variant.
        """
        spec = self.contract(model).versions[version]
        concrete = variant or spec.default_variant
        if concrete not in spec.variants:
            raise VersionNotFound(model, "variant", variant, list(spec.variants))
        return concrete

    def build_digest(self, model: str, version: str, variant: str) -> bytes:
        """`Contract.build_digest` of a concrete version and variant, as this configuration serves it.

        Raises:
            ModelNotFound: no such model.
        """
        file = self.files.get(PoolKey(model, version, variant), b"")
        return self.contract(model).build_digest(version, variant, file)
