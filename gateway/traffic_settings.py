"""How requests are spread, tried again and held back: the sections of `inferway.yaml` on traffic."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.security_settings import Seconds
from gateway.specs import Name, Section, Version

PolicyName = Literal["p2c", "least_in_flight", "round_robin"]


class RetrySettings(Section):
    """Retries of attempts that failed at one endpoint, at another one.

    Attributes:
        max_attempts: attempts a request, the first included.
        budget_ratio: retries for each request of live traffic.
        budget_floor_per_second: retries a second that are always allowed.
    """

    max_attempts: Annotated[int, Field(ge=1)] = 4
    budget_ratio: Annotated[float, Field(ge=0, le=1)] = 0.2
    budget_floor_per_second: Annotated[float, Field(ge=0)] = 10.0


class AdmissionSettings(Section):
    """How much a pool is sent at once, and what waits; each pool has its own limit and queue.

    Attributes:
        enabled: without it everything is sent at once.
        min_limit_requests: the limit adapts, and never falls below this.
        max_limit_requests: nor rises above this.
        latency_goal_seconds: how slow answers may become before less is sent at once; an engine that takes
            longer for one request alone may take twice that.
        max_queue_requests: how many may wait.
        max_queue_bytes: what those who wait may hold together.
        default_priority: of requests that name none; 1 is the highest.
    """

    enabled: bool = True
    min_limit_requests: Annotated[int, Field(ge=1)] = 1
    max_limit_requests: Annotated[int, Field(ge=1)] = 1024
    latency_goal_seconds: Seconds = 0.25
    max_queue_requests: Annotated[int, Field(ge=0)] = 1024
    max_queue_bytes: Annotated[int, Field(ge=0)] = 128 * 1024 * 1024
    default_priority: Annotated[int, Field(ge=1)] = 5

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_limit_requests > self.max_limit_requests:
            raise ValueError("min_limit_requests is above max_limit_requests")
        return self


class HedgingSettings(Section):
    """Second attempts at another endpoint, beside a first one that is slower than the pool's 95th percentile.

    Attributes:
        enabled: on, since a slow replica is what no other setting helps against before it has been found out,
            and what it costs is bounded by the budget.
        budget_ratio: hedges for each request that was answered.
    """

    enabled: bool = True
    budget_ratio: Annotated[float, Field(ge=0, le=1)] = 0.05


class BatchingSettings(Section):
    """Joining requests of one pool along the batch axis while its endpoints are at work.

    Attributes:
        enabled: a model may say no.
        max_rows: the most of one batch; never more than the model's own `max_batch_size`.
        max_bytes: the most of one batch, of its inputs and of its outputs.
        preferred_rows: sizes that the engines run best.
        latency_goal_seconds: how long a batch may take, before smaller ones are sent; a model that takes
            longer for one request alone may take twice that. Less than half of admission's goal, which
            also counts the wait for the batch before.
        max_delay_seconds: how long a request waits for others although an endpoint has nothing to do.
    """

    enabled: bool = True
    max_rows: Annotated[int, Field(ge=1)] = 32
    max_bytes: Annotated[int, Field(gt=0)] = 8 * 1024 * 1024
    preferred_rows: tuple[Annotated[int, Field(ge=1)], ...] = ()
    latency_goal_seconds: Seconds = 0.1
    max_delay_seconds: Annotated[float, Field(ge=0)] = 0.0


class BalancingSettings(Section):
    """Choice of endpoints, and their health.

    Attributes:
        policy: how a pool that names none of its own picks among the endpoints that may take a request.
        panic_ratio: ejections are ignored when the share of endpoints that are well, of those that are ready,
            is at or below this.
        attempt_timeout_seconds: how long one attempt may take, so that a hang is retried elsewhere.
        latency_decay_seconds: how fast a peak of latency is forgotten.
        consecutive_failures: how many in a row eject an endpoint.
        ejection_seconds: the first ejection's length; each further one that comes soon doubles it.
        max_ejection_seconds: where doubling ends.
        max_ejected_ratio: the largest share of a pool's ready endpoints that may be ejected, rounded up.
        outlier_margin_ratio: an endpoint is ejected when its success ratio is below that of the others of its
            pool by more than this.
        outlier_min_requests: so many must it and the others have answered for that.
        outlier_window_seconds: over what time they are counted, and how soon one ejection makes the
            next longer.
        ready_interval_seconds: how often readiness is asked; less often where there are very many to ask.
        ready_timeout_seconds: how long an endpoint may take to say that it is ready.
        warm_up_timeout_seconds: how long it may then take to answer the model's example, several times.
        discovery_interval_seconds: how often the names and files that endpoints come from are looked at.
    """

    policy: PolicyName = "p2c"
    panic_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    attempt_timeout_seconds: Seconds = 2.5
    latency_decay_seconds: Seconds = 10.0
    consecutive_failures: Annotated[int, Field(ge=1)] = 3
    ejection_seconds: Seconds = 1.0
    max_ejection_seconds: Seconds = 30.0
    max_ejected_ratio: Annotated[float, Field(ge=0, le=1)] = 0.7
    outlier_margin_ratio: Annotated[float, Field(gt=0, le=1)] = 0.2
    outlier_min_requests: Annotated[int, Field(ge=1)] = 20
    outlier_window_seconds: Seconds = 10.0
    ready_interval_seconds: Seconds = 0.5
    ready_timeout_seconds: Seconds = 1.0
    warm_up_timeout_seconds: Seconds = 10.0
    discovery_interval_seconds: Seconds = 5.0


class RolloutSettings(Section):
    """A canary of what answers by default or by one label of a model, and the model's labels.

    Attributes:
        model: the model's name.
        label: the label whose requests the canary shares; without one, those that ask for none.
        canary_version: the version on trial; the one that answers already where only the variant is another.
        canary_variant: the variant on trial; that version's default one where only the version is another.
        weight: share of those requests that the canary answers; of none that name a version or a variant.
        sticky: what keeps a caller on one side: its API key, the header `x-inferway-sticky`, or nothing.
        labels: names for versions, over those of the contract.
        max_error_ratio: by how much its share of failures may be larger than the stable side's.
        max_p99_ratio: how many times the stable side's p99 its own may be; without one, any.
        max_p99_seconds: how long its p99 may be; without one, any.
        min_requests: of a side before its numbers mean anything.
        window_seconds: how long an outcome counts.
    """

    model: Name
    label: Name | None = None
    canary_version: Version | None = None
    canary_variant: Name | None = None
    weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    sticky: Literal["none", "key", "header"] = "none"
    labels: Mapping[Name, Version] = {}
    max_error_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_p99_ratio: Annotated[float, Field(gt=0)] | None = None
    max_p99_seconds: Annotated[float, Field(gt=0)] | None = None
    min_requests: Annotated[int, Field(ge=1)] = 100
    window_seconds: Seconds = 300.0


class ShadowTargetSettings(Section):
    """What is asked too.

    Attributes:
        endpoints: names of endpoints; without any, those of the pool that serves the target.
        version: of the model; that of the request where it is left out.
        variant: of that version; that of the request where it is left out.
    """

    endpoints: tuple[Name, ...] = ()
    version: Version | None = None
    variant: Name | None = None


class ShadowSettings(Section):
    """Requests that another engine, version or variant is asked as well; its answers are only compared.

    Attributes:
        model: the model's name.
        version: whose requests; the default one where it is left out.
        variant: whose requests; that version's default one where it is left out.
        to: what is asked too.
        ratio: share of the answered requests that are sent there.
        tolerance: how far a value may be from the client's before two answers differ.
        timeout_seconds: how long an answer is waited for.
        max_in_flight: requests under way at a time.
        max_queued: requests that wait for that; any more are dropped.
    """

    model: Name
    version: Version | None = None
    variant: Name | None = None
    to: ShadowTargetSettings
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.1
    tolerance: Annotated[float, Field(ge=0)] = 0.0001
    timeout_seconds: Seconds = 1.0
    max_in_flight: Annotated[int, Field(ge=1)] = 4
    max_queued: Annotated[int, Field(ge=0)] = 16


class ReloadSettings(Section):
    """Taking a changed configuration without a restart.

    Attributes:
        watch: whether a change of the files is enough; SIGHUP always is.
        ready_timeout_seconds: how long the new configuration may take to be able to answer what the old one
            answers, before it is given up.
    """

    watch: bool = True
    ready_timeout_seconds: Seconds = 60.0
