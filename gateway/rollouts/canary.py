"""Which side of a canary answers a request: the stable target, or the one on trial."""

from dataclasses import dataclass
from random import Random
from typing import Literal

from blake3 import blake3

from gateway.inference import PoolKey

Sticky = Literal["none", "key", "header"]
"""What keeps a caller on one side: nothing, its API key, or a header of its own."""
_PLACES = 2**64


@dataclass(frozen=True, slots=True)
class Canary:
    """Two targets of one model.

    Attributes:
        stable: what answers without it.
        trial: what is on trial: another version, another variant, or both.
        sticky: what keeps a caller on one side.
    """

    stable: PoolKey
    trial: PoolKey
    sticky: Sticky = "none"

    def draw(self, weight: float, value: str, rng: Random) -> PoolKey:
        """The target of one request.

        A value has one place in [0, 1), whatever the weight is: so one weight always gives it the same side,
        and a larger weight only moves callers from the stable side to the trial (as linkerd's and Envoy's
        hash policies keep a key on its endpoint).

        Args:
            weight: share of the requests for the trial, 0 to 1.
            value: of the API key or header; empty when there is none, and then chance decides.
            rng: that chance.
        """
        at = place(self.stable.model, value) if value else rng.random()
        return self.trial if at < weight else self.stable


def place(model: str, value: str) -> float:
    """Where a caller's value stands in [0, 1): evenly spread, and for each model elsewhere."""
    digest = blake3(f"{model}\0{value}".encode()).digest(8)
    return (int.from_bytes(digest, "little") >> 11) / (_PLACES >> 11)  # 53 bits: what a float holds exactly
