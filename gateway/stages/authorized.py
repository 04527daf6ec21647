"""Authorized: the caller's key may call this model.

Over HTTP the edge knows the model from the path and has refused already; over gRPC it is in the message,
which is only read once the key has been found valid. Outside of Resolved and of every cache, so that what a
key may not ask is neither looked up nor answered from what others asked.
"""

from collections.abc import Coroutine
from typing import Any

from gateway.access import Access
from gateway.chain import Infer
from gateway.inference import InferRequest, InferResponse


class Authorized:
    """Asks the key of the request's task; stands in the chain only where keys are on.

    Args:
        call_next: what it wraps.
        access: knows the key, and counts the refusals.
    """

    def __init__(self, call_next: Infer, *, access: Access) -> None:
        self._call_next = call_next
        self._access = access

    def __call__(self, request: InferRequest, /) -> Coroutine[Any, Any, InferResponse]:
        """Answer one request.

        Raises:
            ModelForbidden: the key may not call the model.
        """
        self._access.check_model(request.model)
        return self._call_next(request)
