"""`make load SHAPE=ramp`."""

from loadtests import curves
from loadtests.shapes.curved import CurvedShape


class Ramp(CurvedShape):
    """See `curves.ramp`."""

    curve = (curves.ramp,)
