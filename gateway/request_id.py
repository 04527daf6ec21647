"""The request's id: one for all that is logged, answered and sent on for it.

It is a context variable, which every task that works for the request inherits; what runs for no request in
particular (health checks, the flush of spans) has none. It is not OIP's `id`, which is the client's own and
comes back in the body.
"""

import os
import re
from contextvars import ContextVar
from itertools import count

HEADER = "x-request-id"
"""The HTTP header and the gRPC metadata, in and out."""

Metadata = tuple[tuple[str, str], ...]

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
TRACE_METADATA: ContextVar[Metadata] = ContextVar("trace_metadata", default=())
"""What tells a backend of the span that calls it; empty while nothing is traced."""

_SANE = re.compile(r"[!-~]{1,128}")
_PROCESS = os.urandom(8).hex()
_numbers = count()
"""An id is no secret: a process and a number make it unique, for half of what a random one costs."""


def bind_request_id(sent: str) -> str:
    """Make this the request's id in the current task, and in those that it starts from now on.

    Args:
        sent: the caller's; anything but 1 to 128 visible ASCII characters gives way to a new one.

    Returns:
        the id that holds.
    """
    request_id = sent if sent and _SANE.fullmatch(sent) else f"{_PROCESS}{next(_numbers):016x}"
    REQUEST_ID.set(request_id)
    return request_id


def outgoing_metadata() -> Metadata | None:
    """The gRPC metadata of a call to a backend; None when it is for no request."""
    request_id = REQUEST_ID.get()
    return ((HEADER, request_id), *TRACE_METADATA.get()) if request_id else None
