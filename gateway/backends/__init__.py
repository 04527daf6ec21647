"""Clients of the backends, one file each; an endpoint is one of these at one address."""

from typing import Protocol, runtime_checkable

from gateway.inference import InferRequest, InferResponse


class CannotServe(Exception):
    """What a server has for a model cannot be served; the text says why, a line for each thing to mend.

    It stays so until somebody changes the model or the contract: waiting does not help.
    """


class Backend(Protocol):
    """An Infer that talks to one address of one kind of model server."""

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        """Answer one request, or raise an `EndpointFailure` or a `RejectedByBackend`.

        The request's deadline is that of this attempt. It is the caller's to keep (the balancer cancels); a
        backend must survive being cancelled, tells its server the time left where that is safe, and raises
        TimeoutError when the server says that it is over.
        """
        ...

    async def is_ready(self, model: str, version: str, variant: str, /) -> bool:
        """Whether the model would be answered now; false on any failure.

        Raises:
            CannotServe: it never will be, as what the server has does not fit the contract, or is broken.
        """
        ...

    async def aclose(self) -> None:
        """Give up the connection."""
        ...


@runtime_checkable
class Heals(Backend, Protocol):
    """A Backend whose server may think a model ready that is dead, and can be told to load it anew."""

    async def heal(self, model: str, variant: str, /) -> bool | None:
        """Load a model anew that was seen dead, and has not answered since.

        None when there is no such model, else whether it was loaded. A caller that leaves does not end it.
        """
        ...


def engine_model_name(model: str, variant: str) -> str:
    """The name under which an engine holds one variant of a model."""
    return model if variant == "fp32" else f"{model}-{variant}"
