"""The models that the stand-in holds: their states, and how they come and go.

It follows TensorFlow Serving's lifecycle: a new version is loaded before the one that it replaces is let go,
a failed load is tried again, a version that went stays listed as END. Its refusals are worded as in
tensorflow_serving/model_servers/{server_core,get_model_status_impl}.cc and core/basic_manager.cc.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic

import grpc

from services.tfserving.versions import ModelConfig, Servable, State, Version, numbered, wanted

log = logging.getLogger(__name__)
Code = grpc.StatusCode


class ServingError(Exception):
    """A refusal, as a gRPC status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Servables(Generic[Servable]):
    """All models, safe to use from many threads; one thread polls.

    Args:
        load: makes a servable of a version's folder; raises anything when it cannot.
        max_load_retries: how often a failed load is tried again.
        load_retry_seconds: the least time between two tries.
        labels_before_available: whether a label may name a version that is not there yet.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        load: Callable[[Path], Servable],
        *,
        max_load_retries: int = 5,
        load_retry_seconds: float = 60.0,
        labels_before_available: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._max_load_retries = max_load_retries
        self._load_retry_seconds = load_retry_seconds
        self._labels_before_available = labels_before_available
        self._clock = clock
        self._configs: dict[str, ModelConfig] = {}
        self._versions: dict[str, dict[int, Version[Servable]]] = {}
        self._poll_lock = threading.Lock()

    def configure(self, configs: Sequence[ModelConfig]) -> None:
        """Take a new list of models; `poll` then makes it so.

        Raises:
            ServingError: the list is refused, and the old one stays.
        """
        new: dict[str, ModelConfig] = {}
        for config in configs:
            if config.name in new:
                raise ServingError(
                    Code.INVALID_ARGUMENT,
                    f"Illegal to list model {config.name} multiple times in config list",
                )
            if not config.base_path.is_absolute():
                raise ServingError(
                    Code.INVALID_ARGUMENT,
                    f"Expected model {config.name} to have an absolute path or URI; "
                    f"got base_path()={config.base_path}",
                )
            self._check_labels(config)
            new[config.name] = config
        self._configs = new

    def _check_labels(self, config: ModelConfig) -> None:
        held = self._configs.get(config.name)
        for label, number in config.labels.items():
            version = self._versions.get(config.name, {}).get(number)
            available = version is not None and version.state is State.AVAILABLE
            moves = held is not None and held.labels.get(label, number) != number
            if not available and (moves or not self._labels_before_available):
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {number} of model {config.name}, "
                    "which is not currently available for inference",
                )

    def poll(self) -> None:
        """Look at every base path once; load what is new, then let go what is no longer wanted."""
        with self._poll_lock:
            configs = dict(self._configs)
            for name in [*configs, *(gone for gone in self._versions if gone not in configs)]:
                self._poll_model(name, configs.get(name))

    def _poll_model(self, name: str, config: ModelConfig | None) -> None:
        target: Mapping[int, Path] = {}
        if config is not None:
            if not config.base_path.is_dir():
                # A path that is away for a moment must not empty the server.
                log.error("Could not find base path %s for servable %s", config.base_path, name)
                return
            target = wanted(config, numbered(config.base_path.iterdir()))
            if not target:
                log.warning("No versions of servable %s found under base path %s", name, config.base_path)
        # Readers take a model's versions without a lock: a changed dict replaces the old one whole.
        versions = dict(self._versions.get(name, {}))
        for number, path in target.items():
            if number not in versions or (versions[number].state is State.END and not versions[number].error):
                versions[number] = Version(number, path)
        self._versions = {**self._versions, name: versions}
        for number in target:
            self._try_load(name, versions[number])
        if config is None or any(versions[number].state is State.AVAILABLE for number in target):
            for number in versions.keys() - target.keys():
                self._unload(name, versions[number])

    def _try_load(self, name: str, version: Version[Servable]) -> None:
        if version.settled or self._clock() < version.try_again_at:
            return
        version.state = State.LOADING
        version.attempts += 1
        try:
            version.servable = self._load(version.path)
        except Exception as error:  # noqa: BLE001 - a broken SavedModel may raise anything at all
            log.error("Loading servable: {name: %s version: %d} failed: %s", name, version.number, error)  # noqa: TRY400
            version.error = str(error)
            version.try_again_at = self._clock() + self._load_retry_seconds
            if version.attempts > self._max_load_retries:
                version.state = State.END
            return
        version.error = ""
        version.state = State.AVAILABLE
        log.info("Successfully loaded servable version {name: %s version: %d}", name, version.number)

    def _unload(self, name: str, version: Version[Servable]) -> None:
        if version.state is State.END:
            return
        version.state = State.UNLOADING
        version.servable = None  # calls in flight hold it until they are done
        version.state = State.END
        log.info("Done unloading servable version {name: %s version: %d}", name, version.number)

    def find(self, name: str, number: int | None, label: str) -> tuple[int, Servable]:
        """The version that a request means, and its number.

        Raises:
            ServingError: there is none.
        """
        if not name:
            raise ServingError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        versions = self._versions.get(name, {})
        if label:
            config = self._configs.get(name)
            if config is None or label not in config.labels:
                raise ServingError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
            number = config.labels[label]
        asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
        candidates = sorted(versions, reverse=True) if number is None else [number]
        for candidate in candidates:
            version = versions.get(candidate)
            servable = version.servable if version is not None else None
            if servable is not None:
                return candidate, servable
        raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {asked}")

    def versions(self, name: str) -> list[Version[Servable]]:
        """All versions of a model that there ever were, the newest first."""
        versions = self._versions.get(name, {})
        return [versions[number] for number in sorted(versions, reverse=True)]

    def status(self, name: str, number: int | None) -> list[Version[Servable]]:
        """The versions that a status request means; all that ever were, without a number.

        Raises:
            ServingError: there is none.
        """
        versions = self.versions(name)
        if not versions and number is None:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        chosen = [version for version in versions if number in (None, version.number)]
        if not chosen:
            raise ServingError(Code.NOT_FOUND, f"Could not find version {number} of model {name}")
        return chosen
