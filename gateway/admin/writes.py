"""Who may change something over the admin port, which asks for no key.

Prometheus must reach `/metrics` from elsewhere; that must not mean that it, or whoever gets into its network,
may drain every endpoint. So writes come from this machine (or this container: `kubectl exec`,
`kubectl port-forward`) unless the settings say otherwise.

A browser on this machine is this machine, too. A page of another site can make it send a request, but not
one with a JSON content type (https://fetch.spec.whatwg.org/#cors-safelisted-request-header), and a name that
was turned to this machine (DNS rebinding) stands in `Host`.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request

from gateway.admin.operations import NotDone
from gateway.settings import AdminWrites

FORBIDDEN = 403


class Writes:
    """Lets a request through that may change something; a FastAPI dependency.

    Args:
        allowed: from where.
    """

    def __init__(self, allowed: AdminWrites) -> None:
        self._allowed = allowed

    def __call__(self, request: Request) -> None:
        """Check one request.

        Raises:
            NotDone: it may not.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise NotDone(415, "changes need the header 'content-type: application/json'")
        if self._allowed == "any":
            return
        if self._allowed == "off":
            raise NotDone(FORBIDDEN, "server.admin_writes is off: this port only shows")
        peer = request.client.host if request.client else ""
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        if not _is_loopback(peer) or not (host == "localhost" or _is_loopback(host)):
            mend = "ask from the gateway's own machine or container, or set server.admin_writes to any"
            raise NotDone(FORBIDDEN, f"changes are taken from 127.0.0.1 only; {mend}")


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
