"""What the shapes share: users, spawn rate and time are locust's own options."""

import time
from typing import Any, ClassVar

from locust import LoadTestShape

from loadtests.curves import Curve, users


class CurvedShape(LoadTestShape):
    """Follows a curve.

    Attributes:
        curve: a tuple of it alone: a function would become a method.
    """

    abstract = True
    use_common_options = True
    curve: ClassVar[tuple[Curve]]

    def tick(self) -> tuple[int, float] | None:
        """Users, and how many may come or go in a second; None at the end."""
        runner: Any = self.runner
        options = runner.environment.parsed_options
        (curve,) = self.curve
        count = users(curve, time.perf_counter() - self.start_time, options.run_time, options.num_users)
        return None if count is None else (count, options.spawn_rate)
