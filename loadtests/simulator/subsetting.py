"""Which endpoints each gateway knows: deterministic subsetting.

From "Site Reliability Engineering" (Beyer et al., O'Reilly 2016), chapter 20, "A Subset Selection
Algorithm": https://sre.google/sre-book/load-balancing-datacenter/. Gateways are put into rounds; in each
round the endpoints are shuffled once, by the round's own seed, and dealt out, so that in every full round
each endpoint gets exactly one gateway.
"""

from random import Random


def subset(gateway: int, *, endpoints: int, size: int, seed: int = 0) -> list[int]:
    """The endpoints of one gateway, `size` of them.

    Args:
        gateway: its number, from 0.
        endpoints: how many there are.
        size: of every subset; at most `endpoints`. A remainder of `endpoints / size` is left out of each
            round, another one each time.
        seed: of the shuffles.
    """
    subsets = endpoints // size
    rounds, place = divmod(gateway, subsets)
    shuffled = list(range(endpoints))
    Random(f"{seed}/{rounds}").shuffle(shuffled)
    return shuffled[place * size : (place + 1) * size]
