"""Who answered: a cache or an engine, as each reply says of itself."""

from collections import Counter

HEADER = "x-inferway-cache"
"""A header of a REST reply, trailing metadata of a gRPC one; in Open Inference Protocol gRPC a parameter."""

answers: Counter[str] = Counter()
"""How many answers came from where: `memory`, `redis`, `shared` (another request's flight), `miss`."""


def summary() -> str:
    """The shares, the largest first; empty without an answer."""
    total = answers.total()
    return ", ".join(f"{source} {count / total:.1%}" for source, count in answers.most_common())
