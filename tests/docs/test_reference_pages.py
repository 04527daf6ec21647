"""The pages on metrics, errors and protocols name all that the code has, and nothing else."""

import re
from collections.abc import Iterator

import orjson
import pytest
import yaml
from prometheus_client import CollectorRegistry

from gateway import errors, metrics
from gateway.app import Gateway, build
from gateway.balancing import balancer
from gateway.loading import load_settings
from gateway.protocols import grpc_reflection, oip_grpc, problems, tfserving_grpc, torchserve_grpc
from gateway.stages import measured
from tests.docs.pages import ROOT, rows, text


@pytest.fixture(scope="module")
def gateway() -> Gateway:
    return build(load_settings(ROOT / "inferway.full.yaml", {}), ROOT)


def test_the_table_has_every_metric_with_its_type_and_labels() -> None:
    every = vars(metrics.Metrics(CollectorRegistry())).values()
    code = {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, list(metric._labelnames))
        for metric in every
        if not isinstance(metric, CollectorRegistry)
        for family in metric.describe()
    }
    table = rows(text("metrics.md"), "metric")
    assert {name: (kind, re.findall(r"\w+", labels)) for name, kind, labels, _ in table} == code


def test_buckets_outcomes_and_rules_are_all_named() -> None:
    page = text("metrics.md")
    buckets = re.search(r"in seconds: ([\d., ]+)\.", page)
    assert buckets
    assert tuple(map(float, buckets[1].split(", "))) == metrics.LATENCY_BUCKETS
    outcomes = {measured.OK, measured.CANCELLED, *(code.value for code in errors.Code)}
    assert {row[0] for row in rows(page, "outcome")} == outcomes
    attempts = page[page.index("`outcome` of an attempt") :].partition("\n")[0]
    kinds = (errors.EndpointFailure, errors.EndpointFailed)
    failures = {error.__name__ for kind in kinds for error in kind.__subclasses__()}
    others = {kind.code.value for kind in (errors.RejectedByBackend, errors.NotFound, errors.InferwayError)}
    named = {"outcome", balancer.OK, balancer.ABANDONED, *others, *failures}
    assert set(re.findall(r"`(\w+)`", attempts)) == named
    folder = ROOT / "deploy" / "prometheus"
    files = [yaml.safe_load((folder / name).read_text()) for name in ("rules.yml", "slo_rules.yml")]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    records = {rule["record"] for rule in rules if "record" in rule}
    assert {row[0] for row in rows(page, "rule")} == records


def test_the_table_has_every_error_and_how_each_protocol_says_it() -> None:
    code = [
        [
            type(error).__name__,
            error.code.value,
            str(problems.http_status(error)),
            problems.GRPC_STATUS[error.code].name,
            "yes" if error.retryable else "no",
            "yes" if error.blames_endpoint else "no",
            orjson.loads(problems.torchserve_object(error))["type"],
        ]
        for error in _every_error(errors.InferwayError)
    ]
    assert rows(text("errors.md"), "error") == code


def _every_error(error: type[errors.InferwayError]) -> Iterator[errors.InferwayError]:
    """One of each class, in the order of the tree."""
    made: dict[type[errors.InferwayError], errors.InferwayError] = {
        errors.InvalidTensor: errors.InvalidTensor("image", expected="FP32", got="INT8"),
        errors.BodyTooLarge: errors.BodyTooLarge(1),
        errors.ModelNotFound: errors.ModelNotFound("m"),
        errors.VersionNotFound: errors.VersionNotFound("m", "version", "2", ["1"]),
    }
    yield made.get(error) or error("text")
    for below in error.__subclasses__():
        yield from _every_error(below)


def test_the_page_has_every_route_and_no_other(gateway: Gateway) -> None:
    page = text("protocols.md")
    routes: dict[str, set[str]] = {}
    for route in gateway.front.http.routes:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", getattr(route, "path", "")).replace("{rest}", "...")
        if path != "/openapi.json":
            routes.setdefault(path, set()).update(getattr(route, "methods", ()) or ())
    assert [path for path in routes if f"{path}`" not in page] == []
    for method, path in re.findall(r"`([A-Z]+) (/[^`]+)`", page):
        assert method in routes[path], path


def test_the_page_has_every_grpc_method_and_no_other(gateway: Gateway) -> None:
    page = text("protocols.md")
    served = gateway.front.grpc.keys() - grpc_reflection.methods().keys()
    unsupported = {
        f"/{service}/{name}"
        for service, names in (
            (oip_grpc.SERVICE, oip_grpc.UNSUPPORTED),
            (tfserving_grpc.PREDICTION_SERVICE, tfserving_grpc.UNSUPPORTED),
            (tfserving_grpc.MODEL_SERVICE, tfserving_grpc.MODEL_UNSUPPORTED),
            (torchserve_grpc.SERVICE, torchserve_grpc.UNSUPPORTED),
        )
        for name in names
    }
    lines = re.findall(r"Service `([\w.]+)`: ((?:`\w+`(?:, )?)+)", page)
    named = {f"/{service}/{name}" for service, names in lines for name in re.findall(r"\w+", names)}
    assert named == served - unsupported
    assert [path for path in unsupported if f"`{path.rpartition('/')[2]}`" not in page] == []
