"""`make load SHAPE=spike`."""

from loadtests import curves
from loadtests.shapes.curved import CurvedShape


class Spike(CurvedShape):
    """See `curves.spike`."""

    curve = (curves.spike,)
