"""Candidates: the endpoints of a pool that may take a request.

Those that are ready, not draining and not ejected, and where the request has not failed; one on probation
takes one request at a time. The exception is Envoy's panic threshold
(https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/panic_threshold):
when too few endpoints are well, ejections and probation are ignored, for it is better to ask an endpoint
that failed than to fail without asking. What follows from that:

- A pool whose only endpoint fails goes on asking it. Each request is sent once, since it is not sent again to
  where it failed, and the first answer ends the ejection.
- A request that failed at every endpoint that is well may be retried at an ejected one.
- With every endpoint failing, each request is sent once, and further only as the retry budget pays for it.
"""

from collections.abc import Sequence

from gateway.balancing.endpoint import Endpoint


def candidates(
    endpoints: Sequence[Endpoint], excluded: frozenset[str], now: float, *, panic_ratio: float
) -> list[Endpoint]:
    """The endpoints for one request; empty when none is ready that it has not failed at.

    Args:
        endpoints: of the pool.
        excluded: names of those where this request has failed.
        now: seconds, monotonic.
        panic_ratio: ejections are ignored when the share of endpoints that are neither ejected nor on
            probation, of those that are ready and not draining, is at or below this.
    """
    ready = [e for e in endpoints if e.is_ready and not e.is_draining]
    well = [e for e in ready if not e.outlier.on_probation and not e.outlier.is_ejected(now)]
    if len(well) == len(ready) and not excluded:
        return ready
    if len(well) > panic_ratio * len(ready):
        available = [e for e in ready if e.name not in excluded and e.is_available(now)]
        if available:
            return available
    return [e for e in ready if e.name not in excluded]
