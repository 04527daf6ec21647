"""Measured: what the client sees, refusals included, under labels that no client can make up."""

import asyncio

import pytest
import structlog.testing
from prometheus_client import CollectorRegistry

from gateway.catalog import Catalog
from gateway.errors import (
    BodyTooLarge,
    Code,
    DeadlineExceeded,
    InferwayError,
    MalformedBody,
    ModelForbidden,
    ModelNotFound,
    Overloaded,
    QuotaExceeded,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from gateway.inference import InferResponse
from gateway.metrics import Metrics
from gateway.stages.measured import Measured
from tests.fakes import FakeClock, a_contract

NAME = "gateway_request_duration_seconds"
ALL = [
    (None, "ok"),
    (MalformedBody("x"), Code.INVALID_ARGUMENT.value),
    (ModelNotFound("x"), Code.NOT_FOUND.value),
    (Unauthenticated("x"), Code.UNAUTHENTICATED.value),
    (ModelForbidden("x"), Code.FORBIDDEN.value),
    (QuotaExceeded("x"), Code.QUOTA_EXCEEDED.value),
    (BodyTooLarge(1), Code.TOO_LARGE.value),
    (Unsupported("x"), Code.UNSUPPORTED.value),
    (DeadlineExceeded("x"), Code.DEADLINE_EXCEEDED.value),
    (Unavailable("x"), Code.UNAVAILABLE.value),
    (InferwayError("x"), Code.INTERNAL.value),
    (ZeroDivisionError(), Code.INTERNAL.value),
    (asyncio.CancelledError(), "cancelled"),
    (KeyboardInterrupt(), "cancelled"),
]


class Rig:
    """A Measured whose clock a test moves."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        catalog = Catalog({"adder": a_contract()}, passthrough=frozenset({"raw"}))
        self.measured = Measured(Metrics(self.registry), catalog, clock=self.clock)

    def series(self) -> dict[tuple[str, str, str, str], float]:
        """Count by model, version, protocol, outcome."""
        return {
            (
                sample.labels["model"],
                sample.labels["version"],
                sample.labels["protocol"],
                sample.labels["outcome"],
            ): sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == f"{NAME}_count"
        }


@pytest.mark.parametrize(("error", "outcome"), ALL, ids=[f"{type(e).__name__}" for e, _ in ALL])
def test_every_end_of_a_request_is_counted_under_its_outcome(
    error: BaseException | None, outcome: str
) -> None:
    rig = Rig()
    try:
        with rig.measured.start("oip_http") as measurement:
            measurement.asks("adder", "1")
            if error is not None:
                raise error
    except type(error or ZeroDivisionError()):
        assert error is not None
    assert rig.series() == {("adder", "1", "oip_http", outcome): 1}


def test_the_outcomes_that_were_tried_are_all_that_there_are() -> None:
    assert {outcome for _, outcome in ALL} == {code.value for code in Code} | {"ok", "cancelled"}


def test_an_error_goes_on_as_it_was() -> None:
    error = MalformedBody("x")
    with pytest.raises(MalformedBody) as caught, Rig().measured.start("oip_http"):
        raise error
    assert caught.value is error


def test_the_time_is_from_the_start_to_the_end() -> None:
    rig = Rig()
    measurement = rig.measured.start("oip_http")
    rig.clock.now += 1
    with measurement:
        rig.clock.now += 0.5
    labels = {"model": "unknown", "version": "", "protocol": "oip_http", "outcome": "ok"}
    assert rig.registry.get_sample_value(f"{NAME}_sum", labels) == 1.5


def test_the_concrete_version_replaces_the_one_asked_for() -> None:
    rig = Rig()
    with rig.measured.start("oip_grpc") as measurement:
        measurement.asks("adder")
        measurement.answered(InferResponse("adder", "2", ()))
    assert rig.series() == {("adder", "2", "oip_grpc", "ok"): 1}


@pytest.mark.parametrize(
    ("asked", "counted"),
    [
        (("nobody", "1"), ("unknown", "")),
        (("", ""), ("unknown", "")),
        (("adder", "stable"), ("adder", "")),
        (("adder", "99"), ("adder", "")),
        (("adder", "2"), ("adder", "2")),
        (("raw", "7"), ("raw", "")),
    ],
)
def test_labels_come_only_from_configured_names(asked: tuple[str, str], counted: tuple[str, str]) -> None:
    rig = Rig()
    with rig.measured.start("oip_http") as measurement:
        measurement.asks(*asked)
    assert rig.series() == {(*counted, "oip_http", "ok"): 1}


def test_a_client_cannot_grow_the_number_of_series() -> None:
    rig = Rig()
    for number in range(100):
        with rig.measured.start("oip_http") as measurement:
            measurement.asks(f"made-up-{number}", str(number))
    assert rig.series() == {("unknown", "", "oip_http", "ok"): 100}


def test_a_refusal_before_the_model_is_known_counts_as_unknown() -> None:
    rig = Rig()
    with pytest.raises(BodyTooLarge), rig.measured.start("torchserve_http"):
        raise BodyTooLarge(1)
    assert rig.series() == {("unknown", "", "torchserve_http", "too_large"): 1}


def test_a_request_is_in_flight_until_it_has_ended_however_it_ends() -> None:
    measured = Rig().measured
    seen = [measured.in_flight]
    with measured.start("oip_http"):
        seen.append(measured.in_flight)
        with measured.start("oip_grpc"):
            seen.append(measured.in_flight)
        seen.append(measured.in_flight)
        with pytest.raises(Unavailable), measured.start("oip_grpc"):
            raise Unavailable("x")
        seen.append(measured.in_flight)
    assert [*seen, measured.in_flight] == [0, 1, 2, 1, 1, 0]


def test_what_is_not_measured_is_not_in_flight() -> None:
    measured = Rig().measured
    measured.start("oip_http")
    assert measured.in_flight == 0


def test_what_failed_is_logged_and_what_was_shed_is_only_counted() -> None:
    rig = Rig()
    with structlog.testing.capture_logs() as logged:
        for error in (Unavailable("x"), Overloaded("x")):
            with pytest.raises(type(error)), rig.measured.start("oip_http"):
                raise error
    assert [line["error"] for line in logged if line["event"] == "request_failed"] == ["Unavailable"]
