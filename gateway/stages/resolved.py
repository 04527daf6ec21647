"""Resolved: a client's words become one concrete version and variant, and the request is checked.

Outside of every cache, because the content key must name what will answer: a request for the default version
is the same as one that spells that version, and never the same as one after the default has moved. What does
not fit the contract ends here and costs no backend call. A canary is drawn here for the same reason: what it
answers is kept under its own key, and never given for the stable target's.
"""

from collections.abc import Hashable, Mapping
from dataclasses import replace

from gateway.caching.content_key import content_key
from gateway.catalog import Catalog
from gateway.chain import Infer
from gateway.contract import Contract
from gateway.errors import BodyTooLarge
from gateway.inference import InferRequest, InferResponse
from gateway.rollouts.rollout import Rollout

NO_CANARIES: Mapping[tuple[str, str], Rollout] = {}
KNOWN = 1024
"""Forms of requests that are known to fit a target; one more, and all are forgotten."""


class Resolved:
    """Picks version and variant, checks the tensors, sets the content key; returns the caller's own `id`.

    Args:
        call_next: what it wraps.
        catalog: the models.
        max_request_bytes: of all tensors together. JSON and typed contents may grow when they become raw
            bytes; what an engine would refuse for its size must not look like its failure.
        canaries: by model name and label, which is empty for who asks for none; no canary is drawn for a
            request that names a version or a variant.
    """

    def __init__(
        self,
        call_next: Infer,
        *,
        catalog: Catalog,
        max_request_bytes: int,
        canaries: Mapping[tuple[str, str], Rollout] = NO_CANARIES,
    ) -> None:
        self._call_next = call_next
        self._catalog = catalog
        self._max_request_bytes = max_request_bytes
        self._canaries = canaries
        self._targets: dict[tuple[str, str, str], _Target] = {}

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request.

        Raises:
            NotFound: no such model, version, label or variant.
            InvalidTensor: a tensor does not fit the contract.
            BodyTooLarge: the tensors are over the limit.
        """
        if sum([len(tensor.data) for tensor in request.inputs]) > self._max_request_bytes:
            raise BodyTooLarge(self._max_request_bytes)
        canary = self._canaries.get((request.model, request.label))
        if canary is not None and not (request.version or request.variant):
            target = canary.draw(request)
            drawn = replace(request, version=target.version, label="", variant=target.variant)
            response = await canary.watched(self._call_next, self._resolve(drawn))
        else:
            is_known = request.model not in self._catalog.passthrough
            response = await self._call_next(self._resolve(request) if is_known else request)
        return response if response.id == request.id else replace(response, id=request.id)

    def _resolve(self, request: InferRequest) -> InferRequest:
        model, version = request.model, request.version
        if request.label:  # which may move
            version = self._catalog.version(model, label=request.label)
        asked = (model, version, request.variant)
        target = self._targets.get(asked)
        if target is None:
            target = self._targets[asked] = self._target(*asked)
        target.check(request)
        version, variant, key = target.version, target.variant, b""
        if target.is_cached:
            key = content_key(request, version, variant, target.digest)
        return request.resolved(version, variant, key)

    def _target(self, model: str, version: str, variant: str) -> "_Target":
        """What a client's words mean in this configuration; NotFound if nothing, so that there are few."""
        version = self._catalog.version(model, version=version)
        variant = self._catalog.variant(model, version, variant)
        digest = self._catalog.build_digest(model, version, variant)
        return _Target(self._catalog.contract(model), version, variant, digest)


class _Target:
    """A concrete version and variant.

    Attributes:
        version: the version.
        variant: the variant.
        is_cached: whether its answers may be kept.
        digest: of what is built of it.
    """

    __slots__ = ("_contract", "_fitting", "digest", "is_cached", "variant", "version")

    def __init__(self, contract: Contract, version: str, variant: str, digest: bytes) -> None:
        self._contract = contract
        self._fitting: set[Hashable] = set()
        self.version = version
        self.variant = variant
        self.is_cached = contract.cache.enabled
        self.digest = digest

    def check(self, request: InferRequest) -> None:
        """See that a request fits the contract, as `Contract.check` does.

        What it looks at is mostly the same as before: then it fits again, unless BYTES have to be read.
        """
        inputs = [(each.name, each.datatype, each.shape, len(each.data)) for each in request.inputs]
        form = (request.outputs, *inputs)
        if form in self._fitting:
            return
        self._contract.check(request)
        if all(datatype != "BYTES" for _, datatype, _, _ in inputs):
            if len(self._fitting) >= KNOWN:
                self._fitting.clear()
            self._fitting.add(form)
