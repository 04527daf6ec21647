"""What a gateway that starts can serve by now, and what it never will, as it tells on its ports."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from services.launch import Launch
from services.prometheus import answers

PROBE_SECONDS = 2.0


def is_up(addresses: Mapping[str, str]) -> bool:
    """Whether it is ready; or would be, but for models that it cannot serve until somebody mends them.

    The gateway itself stays not ready then, so that a rollout stops; on this machine the others may be used.

    Args:
        addresses: of its ports, as in `Launch.addresses`.
    """
    host, _, port = addresses["http"].rpartition(":")
    if answers(host, int(port), "/v2/health/ready"):
        return True
    endpoints = _endpoints(addresses)
    told = {row["model"] for row in endpoints if row["state"] == "ready" or row["problem"]}
    return bool(endpoints) and told == {row["model"] for row in endpoints}


def problems(gateway: Launch) -> list[str]:
    """Why it cannot serve some of its models, a line for each thing to mend."""
    lines = {line for row in _endpoints(gateway.addresses) for line in row["problem"].splitlines()}
    return sorted(lines)


def _endpoints(addresses: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every endpoint of every pool that answers clients; none while it does not say."""
    try:
        with urllib.request.urlopen(f"http://{addresses['admin']}/pools", timeout=PROBE_SECONDS) as reply:
            endpoints = [row for row in json.load(reply)["endpoints"] if not row.get("shadow")]
    except (urllib.error.URLError, OSError, ValueError):
        return []
    return endpoints
