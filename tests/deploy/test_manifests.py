"""deploy/k8s, as it would be sent to a cluster: there is none here, so these checks stand in for it."""

from pathlib import Path

import pytest
import yaml

from gateway.loading import load_settings
from tests.deploy.checks import CHECKS, Check
from tests.deploy.gateway_checks import checked_by_the_gateway, settings_of
from tests.deploy.manifests import Documents, named, of_kind
from tests.deploy.network import NAME, Arrow, arrows
from tests.deploy.rendering import COMBINATIONS, COMPONENTS, FOLDERS, ROOT, SOURCE, TARGETS
from tests.deploy.schema_checks import SCHEMAS, validator

ARROWS = {
    Arrow("clients", "gateway", "8080/TCP"),
    Arrow("clients", "gateway", "8081/TCP"),
    Arrow("gateway", "torchserve", "7070/TCP"),
    Arrow("gateway", "torchserve", "7071/TCP"),
    Arrow("gateway", "triton", "8001/TCP"),
    Arrow("gateway", "tfserving", "8500/TCP"),
    Arrow("gateway", "redis", "6379/TCP"),
    Arrow("gateway", "dns", "53/UDP"),
    Arrow("gateway", "dns", "53/TCP"),
    Arrow("prometheus", "gateway", "8082/TCP"),
    Arrow("prometheus", "torchserve", "7082/TCP"),
    Arrow("prometheus", "triton", "8002/TCP"),
    Arrow("prometheus", "tfserving", "8501/TCP"),
}
"""All that may talk to each other, as the diagram in deploy/k8s/README.md draws it."""
STORE = "0.0.0.0/0"
ENGINES = ("torchserve", "triton", "tfserving")
ADDED = {
    "tracing": {Arrow("gateway", "collector", "4317/TCP")},
    "managed-redis": {Arrow("gateway", "10.0.0.0/8", "6379/TCP")},
    "models-object-storage": {
        Arrow(engine, *where)
        for engine in ENGINES
        for where in ((STORE, "443/TCP"), ("dns", "53/UDP"), ("dns", "53/TCP"))
    },
}
TAKEN_AWAY = {"managed-redis": {Arrow("gateway", "redis", "6379/TCP")}}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("target", TARGETS)
def test_every_rendering_passes_every_check(
    rendered: dict[str, Documents], target: str, check: Check
) -> None:
    assert [*check(rendered[target])] == []


@pytest.mark.parametrize("target", TARGETS)
def test_network_policies_allow_exactly_the_arrows(rendered: dict[str, Documents], target: str) -> None:
    components = COMBINATIONS.get(target, ("", ()))[1]
    expected = ARROWS.union(*(ADDED.get(name, set()) for name in components)).difference(
        *(TAKEN_AWAY.get(name, set()) for name in components)
    )
    allowed, one_sided = arrows(rendered[target])
    assert allowed == expected
    assert one_sided == set()


def test_the_readme_lists_the_same_arrows() -> None:
    lines = (SOURCE / "README.md").read_text().split("## What may talk to what")[1].split("## ")[0]
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in lines.splitlines()
        if line.startswith("|")
    ]
    listed = {Arrow(row[0], row[1], port.strip()) for row in rows[2:] for port in row[2].split(",")}
    assert listed == ARROWS


def test_every_component_is_rendered_and_every_schema_is_used(rendered: dict[str, Documents]) -> None:
    assert {name for _, names in COMBINATIONS.values() for name in names} == {*COMPONENTS}
    folders = {path.parent.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("kustomization.yaml")}
    parts = {f"base/{name}" for name in ("gateway", "redis", *ENGINES)}
    assert folders == {*FOLDERS, *(f"components/{name}" for name in COMPONENTS), *parts}
    kinds = {
        f"{one['apiVersion'].replace('/', '_')}_{one['kind']}" for all_ in rendered.values() for one in all_
    }
    for path in SCHEMAS.glob("*.yaml"):
        validator(path)
        assert path.stem in kinds | {"prometheus-adapter"}


@pytest.mark.parametrize("target", ["overlays/local", "overlays/production", "kserve"])
def test_the_gateway_accepts_its_configuration(
    rendered: dict[str, Documents], target: str, tmp_path: Path
) -> None:
    assert checked_by_the_gateway(rendered[target], tmp_path) == ""


@pytest.mark.parametrize("target", FOLDERS)
def test_every_model_of_the_full_stack_is_served(rendered: dict[str, Documents], target: str) -> None:
    full = load_settings(ROOT / "inferway.full.yaml", {})
    served = settings_of(rendered[target])
    assert [pool.model for pool in served.pools] == [pool.model for pool in full.pools]
    assert [Path(path).name for path in served.models] == [Path(path).name for path in full.models]
    assert all({*pool.endpoints} == {*served.endpoints} for pool in served.pools)


def test_another_configuration_is_another_deployment(rendered: dict[str, Documents]) -> None:
    names = set()
    for target in ("base", "kserve"):
        pod = (named(rendered[target], "Deployment", "gateway") or {})["spec"]["template"]["spec"]
        names |= {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
    assert len(names) == 2


def test_tf_serving_gets_the_flags_of_its_image(rendered: dict[str, Documents]) -> None:
    lines = (ROOT / "services" / "tfserving" / "Dockerfile").read_text().split("\nCMD ")[1]
    flags = set(yaml.safe_load(lines.partition("\n\n")[0].replace("\\\n", "")))
    container = (named(rendered["base"], "StatefulSet", "tfserving") or {})["spec"]["template"]["spec"][
        "containers"
    ][0]
    runtime = (named(rendered["kserve"], "ServingRuntime", "inferway-tfserving") or {})["spec"]["containers"][
        0
    ]
    assert flags <= {*container["args"]}
    assert runtime["args"] == container["args"]


def test_kserve_runs_the_engines_as_the_base_does(rendered: dict[str, Documents]) -> None:
    for engine in ENGINES:
        own = (named(rendered["base"], "StatefulSet", engine) or {})["spec"]["template"]["spec"][
            "containers"
        ][0]
        runtime = (named(rendered["kserve"], "ServingRuntime", f"inferway-{engine}") or {})["spec"][
            "containers"
        ][0]
        for key in ("image", "env", "resources", "securityContext", "volumeMounts", "startupProbe"):
            assert runtime.get(key) == own.get(key), (engine, key)
        assert sorted(one["containerPort"] for one in runtime["ports"]) == sorted(
            one["containerPort"] for one in own["ports"]
        )


def test_redis_is_the_one_of_compose(rendered: dict[str, Documents]) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    container = (named(rendered["base"], "StatefulSet", "redis") or {})["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert container["image"] == compose["services"]["redis"]["image"]
    for policy in ("maxmemory-policy volatile-ttl\n", "maxmemory-samples 10\n"):
        assert policy in container["command"][-1]
        assert policy in compose["services"]["redis"]["command"][-1]


def test_the_gpu_overlay_asks_for_a_gpu_and_a_plan(rendered: dict[str, Documents]) -> None:
    container = (named(rendered["overlays/gpu"], "StatefulSet", "triton") or {})["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["env"] == [{"name": "PLATFORM", "value": "tensorrt_plan"}]


def test_every_pod_has_the_label_that_policies_go_by(rendered: dict[str, Documents]) -> None:
    for documents in rendered.values():
        for policy in of_kind(documents, "NetworkPolicy"):
            selector = policy["spec"]["podSelector"]
            assert policy["metadata"]["name"] == "default-deny" or NAME in str(selector)
