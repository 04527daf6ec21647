"""Faults that people make in manifests, planted in a good rendering: each must be caught by its own check."""

import copy
from pathlib import Path

import pytest

from tests.deploy import faults_of_pods, faults_of_wiring
from tests.deploy.checks import CHECKS
from tests.deploy.manifests import Documents
from tests.deploy.network import Arrow, arrows
from tests.deploy.patches import patches_without_effect
from tests.deploy.planting import the
from tests.deploy.rendering import RenderError, build, copy_to

FAULTS = {**faults_of_pods.FAULTS, **faults_of_wiring.FAULTS}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(rendered: dict[str, Documents], fault: str) -> None:
    target, plant, check = FAULTS[fault]
    documents = copy.deepcopy(rendered[target])
    assert [*check(documents)] == []
    plant(documents)
    assert [*check(documents)]


def test_every_check_has_a_planted_fault() -> None:
    assert {check for _, _, check in FAULTS.values()} == {*CHECKS}


def test_a_policy_too_many_is_caught(rendered: dict[str, Documents]) -> None:
    documents = copy.deepcopy(rendered["base"])
    before, _ = arrows(documents)
    gateway = the(documents, "NetworkPolicy", "gateway")["spec"]
    gateway["ingress"].append({"ports": [{"port": 8082}]})
    gateway["egress"].append({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]})
    after, _ = arrows(documents)
    assert after - before == {Arrow("any", "gateway", "8082/TCP"), Arrow("gateway", "0.0.0.0/0", "443/TCP")}


def test_an_arrow_that_only_one_side_allows_is_caught(rendered: dict[str, Documents]) -> None:
    documents = copy.deepcopy(rendered["base"])
    the(documents, "NetworkPolicy", "triton")["spec"]["ingress"].pop(0)
    assert arrows(documents)[1] == {Arrow("gateway", "triton", "8001/TCP")}


def test_a_policy_too_few_is_caught(rendered: dict[str, Documents]) -> None:
    documents = copy.deepcopy(rendered["base"])
    before, _ = arrows(documents)
    the(documents, "NetworkPolicy", "gateway")["spec"]["egress"][-1]["ports"].pop()
    the(documents, "NetworkPolicy", "redis")["spec"].pop("ingress")
    after, _ = arrows(documents)
    assert before - after == {Arrow("gateway", "dns", "53/TCP"), Arrow("gateway", "redis", "6379/TCP")}


def test_a_pod_that_no_policy_isolates_is_caught(rendered: dict[str, Documents]) -> None:
    documents = copy.deepcopy(rendered["base"])
    documents.remove(the(documents, "NetworkPolicy", "default-deny"))
    documents.remove(the(documents, "NetworkPolicy", "redis"))
    assert {Arrow("any", "redis", "any"), Arrow("redis", "any", "any")} <= arrows(documents)[0]


def test_every_patch_changes_something(tmp_path: Path) -> None:
    assert patches_without_effect(copy_to(tmp_path)) == []


def test_a_patch_that_hits_nothing_is_caught(tmp_path: Path) -> None:
    tree = copy_to(tmp_path)
    for path in tree.glob("*/*/kustomization.yaml"):
        if path.parent.name != "autoscaling" and "patches" in path.read_text():
            path.unlink()
    (tree / "kserve" / "kustomization.yaml").unlink()
    path = tree / "components" / "autoscaling" / "kustomization.yaml"
    path.write_text(path.read_text().replace("name: gateway", "name: gatway"))
    (fault,) = patches_without_effect(tree)
    assert "changes nothing" in fault


def test_a_patch_without_a_target_that_hits_nothing_is_refused(tmp_path: Path) -> None:
    tree = copy_to(tmp_path)
    path = tree / "overlays" / "gpu" / "triton.yaml"
    path.write_text(path.read_text().replace("name: triton", "name: trition", 1))
    with pytest.raises(RenderError, match="trition"):
        build(tree / "overlays" / "gpu")
