"""Resolved: a client's words become one concrete version and variant, and the request is checked.

Outside of every cache, because the content key must name what will answer: a request for the default version
is the same as one that spells that version, and never the same as one after the default has moved. What does
not fit the contract ends here and costs no backend call. A canary is drawn here for the same reason: what it
answers is kept under its own key, and never given for the stable target's.
"""

from collections.abc import Mapping
from dataclasses import replace

from gateway.caching.content_key import content_key
from gateway.catalog import Catalog
from gateway.chain import Infer
from gateway.errors import BodyTooLarge
from gateway.inference import InferRequest, InferResponse
from gateway.rollouts.rollout import Rollout

NO_CANARIES: Mapping[str, Rollout] = {}


class Resolved:
    """Picks version and variant, checks the tensors, sets the content key; returns the caller's own `id`.

    Args:
        call_next: what it wraps.
        catalog: the models.
        max_request_bytes: of all tensors together. JSON and typed contents may grow when they become raw
            bytes; what an engine would refuse for its size must not look like its failure.
        canaries: by model name; one is drawn for a request that asks for no version, label or variant.
    """

    def __init__(
        self,
        call_next: Infer,
        *,
        catalog: Catalog,
        max_request_bytes: int,
        canaries: Mapping[str, Rollout] = NO_CANARIES,
    ) -> None:
        self._call_next = call_next
        self._catalog = catalog
        self._max_request_bytes = max_request_bytes
        self._canaries = canaries
        self._digests = {
            (contract.name, version, variant): contract.build_digest(version, variant)
            for contract in catalog.contracts.values()
            for version, spec in contract.versions.items()
            for variant in spec.variants
        }

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request.

        Raises:
            NotFound: no such model, version, label or variant.
            InvalidTensor: a tensor does not fit the contract.
            BodyTooLarge: the tensors are over the limit.
        """
        if sum([len(tensor.data) for tensor in request.inputs]) > self._max_request_bytes:
            raise BodyTooLarge(self._max_request_bytes)
        canary = self._canaries.get(request.model)
        if canary is not None and not (request.version or request.label or request.variant):
            target = canary.draw(request)
            drawn = replace(request, version=target.version, variant=target.variant)
            response = await canary.watched(self._call_next, self._resolve(drawn))
        else:
            is_known = request.model not in self._catalog.passthrough
            response = await self._call_next(self._resolve(request) if is_known else request)
        return response if response.id == request.id else replace(response, id=request.id)

    def _resolve(self, request: InferRequest) -> InferRequest:
        contract = self._catalog.contract(request.model)
        version = self._catalog.version(request.model, version=request.version, label=request.label)
        variant = self._catalog.variant(request.model, version, request.variant)
        contract.check(request)
        key = b""
        if contract.cache.enabled:
            key = content_key(request, version, variant, self._digests[request.model, version, variant])
        return request.resolved(version, variant, key)
