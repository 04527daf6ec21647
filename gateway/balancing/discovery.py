"""Which endpoints come and which go, from the addresses that are known and those that were found. Pure."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """What a look-up changes, each in order.

    Attributes:
        appeared: addresses that are new.
        gone: addresses that were not found any more.
    """

    appeared: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


def change(known: Collection[str], found: Collection[str]) -> Change:
    """What to add and what to remove.

    Nothing found changes nothing: a name server that has lost its data must not take a whole pool with it,
    and endpoints that are really gone are seen by their health. Envoy keeps its hosts the same way where a
    look-up fails (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/service_discovery).

    Args:
        known: addresses that are in use.
        found: addresses of the latest look-up.
    """
    if not found:
        return Change()
    old, new = set(known), set(found)
    return Change(tuple(sorted(new - old)), tuple(sorted(old - new)))
