"""What a configuration takes over from the one before it: the clients of endpoints that stay the same.

A client that is kept keeps its connections, and the embedded engine its sessions; a pool's endpoint whose
client is kept keeps what it has learned of latency and health. So a reload costs what has changed, and no
endpoint that is in use has to warm up again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from gateway.backends import Backend
from gateway.backends.channel_tls import ChannelTls
from gateway.contract import Contract
from gateway.file_watch import FileState, file_state
from gateway.inference import PoolKey
from gateway.settings import EndpointSettings


@dataclass(frozen=True, slots=True)
class Use:
    """What one configuration asks of a client.

    Attributes:
        settings: of its endpoint.
        contracts: by model name.
        pools: what it is to serve.
        files: of the embedded engine: the files of each pool.
    """

    settings: EndpointSettings
    contracts: Mapping[str, Contract]
    pools: frozenset[PoolKey]
    files: Mapping[PoolKey, Sequence[Path]] = field(default_factory=dict)

    @property
    def models(self) -> set[str]:
        """The models that it is to serve."""
        return {key.model for key in self.pools}

    def every_file(self) -> Iterator[Path]:
        """The files of all pools."""
        return chain.from_iterable(self.files.values())


@dataclass(slots=True)
class Client:
    """An endpoint's client, shared by the configurations that it fits.

    Attributes:
        backend: the client itself.
        contracts: what the backend holds replies against: `keep` adds to it.
        tls: of its channel, if it has any.
        forget: for the embedded engine: gives up the sessions of all pools but these.
    """

    backend: Backend
    contracts: dict[str, Contract]
    tls: ChannelTls | None = None
    forget: Callable[[Iterable[PoolKey]], None] | None = None
    _uses: list[Use] = field(default_factory=list)
    _files: dict[Path, FileState] = field(default_factory=dict)

    def fits(self, use: Use) -> bool:
        """Whether it may serve another configuration beside those that it serves.

        Its address and settings must be the same, its models' tensors, and the files behind a pool.
        """
        for known in self._uses:
            shared = known.models & use.models
            if known.settings != use.settings or any(
                _tensors(known.contracts.get(name)) != _tensors(use.contracts.get(name)) for name in shared
            ):
                return False
        return all(self._files.get(path) in {None, file_state(path)} for path in use.every_file())

    def keep(self, use: Use) -> None:
        """Serve this configuration, too, until its `release`; it must fit."""
        self._uses.append(use)
        self.contracts.update((name, use.contracts[name]) for name in use.models if name in use.contracts)
        self._files.update((path, file_state(path)) for path in use.every_file())

    async def release(self, use: Use) -> None:
        """Serve a configuration no more; without any, close the connections. May be repeated if cut off."""
        if use in self._uses:
            self._uses.remove(use)  # in place: another configuration may be built in a thread
        if not self._uses:
            await self.backend.aclose()
        elif self.forget is not None:
            self.forget({key for other in self._uses for key in other.pools})


def _tensors(contract: Contract | None) -> object:
    """What a client needs of a contract; None for a model whose bytes go through unchanged."""
    return None if contract is None else (contract.max_batch_size, contract.inputs, contract.outputs)
