"""Rollouts and shadows meet contracts and pools: what does not fit is refused with file, line and mend."""

from pathlib import Path

import pytest
import yaml

from gateway.configuration import ConfigurationError
from gateway.inference import PoolKey
from gateway.loading import load_contracts, load_settings
from gateway.pools import pool_endpoints
from gateway.rollouts.plans import RolloutPlan, ShadowPlan, rollout_plans, shadow_plans
from tests.fakes import a_version

HEAD = """models: [m]
endpoints:
  a: {backend: triton, address: 'h:1'}
  b: {backend: torchserve, address: 'h:2', management_address: 'h:3'}
  looked-up: {backend: triton, dns: 'triton:1'}
pools:
  - {model: m, versions: ["1"], endpoints: [a]}
"""


@pytest.fixture(autouse=True)
def a_model(tmp_path: Path) -> None:
    """Model `m`: version 1 as fp32 and int8, which TorchServe does not have; version 2, in no pool."""
    one = a_version("fp32", "int8")
    one["variants"]["int8"]["unpublished"] = {"torchserve": "it cannot"}
    contract = {
        "name": "m",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
        "default_version": "1",
        "labels": {"old": "1"},
        "versions": {"1": one, "2": a_version("fp32", sha256="1" * 64)},
    }
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.yaml").write_text(yaml.safe_dump(contract))


def plans(folder: Path, tail: str) -> tuple[list[RolloutPlan], list[ShadowPlan]]:
    path = folder / "inferway.yaml"
    path.write_text(HEAD + tail)
    settings = load_settings(path, {})
    contracts = load_contracts(settings, folder)
    pools = pool_endpoints(settings, contracts)
    return (
        list(rollout_plans(settings, contracts, pools)),
        list(shadow_plans(settings, contracts, pools)),
    )


def test_a_canary_is_the_default_but_for_what_is_named(tmp_path: Path) -> None:
    ((plan,), _) = plans(tmp_path, "rollouts: [{model: m, canary_variant: int8, weight: 0.1}]\n")
    assert plan.canary
    assert (plan.canary.stable, plan.canary.trial) == (PoolKey("m", "1", "fp32"), PoolKey("m", "1", "int8"))


def test_a_rollout_may_be_labels_alone(tmp_path: Path) -> None:
    ((plan,), _) = plans(tmp_path, "rollouts: [{model: m, labels: {next: '2'}}]\n")
    assert plan.canary is None


def test_a_labels_canary_is_what_the_label_stands_for_but_for_what_is_named(tmp_path: Path) -> None:
    pool, labels = '  - {model: m, versions: ["2"], endpoints: [a]}\n', "labels: {next: '2'}"
    canaries = "{model: m, label: old, canary_version: '2'}, {model: m, label: next, canary_version: '1'}"
    (found, _) = plans(tmp_path, f"{pool}rollouts: [{canaries}, {{model: m, {labels}}}]\n")
    one, two = PoolKey("m", "1", "fp32"), PoolKey("m", "2", "fp32")
    assert [(each.canary.stable, each.canary.trial) for each in found if each.canary] == [
        (one, two),
        (two, one),
    ]


def test_a_label_and_the_default_each_have_a_canary(tmp_path: Path) -> None:
    canary = "canary_variant: int8"
    (found, _) = plans(tmp_path, f"rollouts: [{{model: m, {canary}}}, {{model: m, label: old, {canary}}}]\n")
    assert [each.settings.label for each in found] == [None, "old"]


def test_a_shadow_asks_the_same_elsewhere(tmp_path: Path) -> None:
    (_, (plan,)) = plans(tmp_path, "shadows: [{model: m, to: {endpoints: [b]}}]\n")
    assert plan.source == plan.to == PoolKey("m", "1", "fp32")
    assert (plan.endpoints, plan.target) == (("b",), "1-fp32@b")


def test_a_shadow_without_endpoints_asks_those_of_the_targets_pool(tmp_path: Path) -> None:
    (_, (plan,)) = plans(tmp_path, "shadows: [{model: m, to: {variant: int8}}]\n")
    assert (plan.to, plan.endpoints, plan.target) == (PoolKey("m", "1", "int8"), ("a",), "1-int8")


def test_a_shadow_may_ask_endpoints_that_are_looked_up_by_name_or_as_part_of_a_pool(tmp_path: Path) -> None:
    pool = '  - {model: m, versions: ["2"], endpoints: [a, looked-up]}\n'
    named, whole = "{endpoints: [looked-up]}", "{version: '2'}"
    (_, found) = plans(tmp_path, f"{pool}shadows: [{{model: m, to: {named}}}, {{model: m, to: {whole}}}]\n")
    assert [plan.endpoints for plan in found] == [("looked-up",), ("a", "looked-up")]
    assert [plan.target for plan in found] == ["1-fp32@looked-up", "2-fp32"]


def test_a_shadow_may_ask_a_version_that_no_pool_serves(tmp_path: Path) -> None:
    (_, (plan,)) = plans(tmp_path, "shadows: [{model: m, to: {version: '2', endpoints: [b]}}]\n")
    assert (plan.to, plan.endpoints) == (PoolKey("m", "2", "fp32"), ("b",))


@pytest.mark.parametrize(
    ("tail", "line", "message"),
    [
        ("rollouts:\n  - {model: n}\n", 9, "there is no 'n' with a contract; known here: m"),
        ("rollouts:\n  - {model: m}\n  - {model: m}\n", 10, "has a rollout above"),
        ("rollouts:\n  - {model: m, weight: 0.1}\n", 9, "there is nothing that it could go to"),
        ("rollouts:\n  - {model: m, canary_version: '3'}\n", 9, "there is no version '3'"),
        ("rollouts:\n  - {model: m, canary_variant: fp16}\n", 9, "there is no variant in version '1' 'fp16'"),
        ("rollouts:\n  - {model: m, canary_variant: fp32}\n", 9, "is what answers already"),
        ("rollouts:\n  - {model: m, canary_version: '2'}\n", 9, "no pool serves version '2' variant 'fp32'"),
        ("rollouts:\n  - model: m\n    labels:\n      a: '7'\n", 11, "there is no version '7'"),
        ("rollouts:\n  - model: m\n    label: old\n", 10, "there is nothing that it could go to"),
        (
            "rollouts:\n  - model: m\n    label: new\n    canary_variant: int8\n",
            10,
            "there is no label 'new'; known here: old",
        ),
        (
            "rollouts:\n" + 2 * "  - {model: m, label: old, canary_variant: int8}\n",
            10,
            "label 'old' of 'm' has a rollout above",
        ),
        (
            "rollouts:\n  - {model: m, labels: {a: '1'}}\n  - {model: m, label: a, labels: {a: '2'}}\n",
            10,
            "it is there above",
        ),
        (
            "rollouts:\n  - {model: m, label: next, canary_version: '1', labels: {next: '2'}}\n",
            9,
            "no pool serves version '2' variant 'fp32'",
        ),
        ("shadows:\n  - {model: n, to: {variant: int8}}\n", 9, "there is no 'n' with a contract"),
        ("shadows:\n  - model: m\n    to: {}\n", 10, "that is what answers already; name endpoints"),
        (
            "shadows:\n  - model: m\n    to: {version: '2'}\n",
            10,
            "no pool serves version '2' variant 'fp32' of model 'm'; name",
        ),
        ("shadows:\n  - {model: m, version: '2', to: {endpoints: [a]}}\n", 9, "no pool serves version '2'"),
        (
            "shadows:\n  - model: m\n    to: {endpoints: [c]}\n",
            10,
            "there is no endpoint 'c'; known here: a, b, looked-up",
        ),
        ("shadows:\n  - model: m\n    to: {endpoints: [b, b]}\n", 10, "endpoint 'b' is named twice"),
        ("shadows:\n  - model: m\n    to: {variant: int8, endpoints: [b]}\n", 10, "'b' does not publish"),
        (
            "shadows:\n  - {model: m, to: {endpoints: [b]}}\n  - {model: m, to: {endpoints: [b]}}\n",
            10,
            "it is there above",
        ),
    ],
)
def test_what_does_not_fit_is_refused_where_it_stands(
    tmp_path: Path, tail: str, line: int, message: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        plans(tmp_path, tail)
    assert f"inferway.yaml:{line}: " in str(refused.value)
    assert message in str(refused.value)
