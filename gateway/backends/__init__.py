"""Clients of the backends, one file each; an endpoint is one of these at one address."""

from typing import Protocol

from gateway.inference import InferRequest, InferResponse


class Backend(Protocol):
    """An Infer that talks to one address of one kind of model server."""

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request, or raise an `EndpointFailure` or a `RejectedByBackend`.

        The deadline is the caller's to keep (the balancer cancels); a backend must survive being cancelled.
        """
        ...

    async def is_ready(self, model: str, version: str, variant: str, /) -> bool:
        """Whether the model would be answered now; false on any failure."""
        ...

    async def aclose(self) -> None:
        """Give up the connection."""
        ...


def engine_model_name(model: str, variant: str) -> str:
    """The name under which an engine holds one variant of a model."""
    return model if variant == "fp32" else f"{model}-{variant}"
