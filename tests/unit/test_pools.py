"""Pools meet contracts: what does not fit is refused with file, line and mend."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from gateway.configuration import ConfigurationError
from gateway.inference import PoolKey
from gateway.loading import load_contracts, load_settings
from gateway.pools import pool_endpoints, pool_policy
from gateway.settings import EndpointSettings, PoolSettings, Settings
from tests.fakes import a_version

NOTHING: Mapping[str, str] = {}
HEAD = """models: [m]
endpoints:
  a: {backend: triton, address: 'h:1'}
  b: {backend: triton, address: 'h:2'}
"""


@pytest.fixture(autouse=True)
def a_model(tmp_path: Path) -> None:
    """Model `m`: version 1 as fp32 and int8, version 2 as fp32."""
    contract = {
        "name": "m",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
        "default_version": "1",
        "versions": {
            "1": a_version("fp32", "int8"),
            "2": a_version("fp32", sha256="1" * 64),
        },
    }
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.yaml").write_text(yaml.safe_dump(contract))


def pools(
    folder: Path, text: str, environment: Mapping[str, str] = NOTHING
) -> dict[PoolKey, tuple[str, ...]]:
    path = folder / "inferway.yaml"
    path.write_text(text)
    settings = load_settings(path, environment)
    return pool_endpoints(settings, load_contracts(settings, folder))


def refusal(folder: Path, text: str, environment: Mapping[str, str] = NOTHING) -> str:
    with pytest.raises(ConfigurationError) as caught:
        pools(folder, text, environment)
    return str(caught.value).replace(f"{folder}/", "")


def test_a_pool_that_names_no_versions_and_no_variant_serves_all_of_them(tmp_path: Path) -> None:
    assert pools(tmp_path, f"{HEAD}pools:\n- {{model: m, endpoints: [a, b]}}\n") == {
        PoolKey("m", "1", "fp32"): ("a", "b"),
        PoolKey("m", "1", "int8"): ("a", "b"),
        PoolKey("m", "2", "fp32"): ("a", "b"),
    }


def test_versions_and_variants_may_have_pools_of_their_own(tmp_path: Path) -> None:
    text = (
        f"{HEAD}pools:\n- {{model: m, versions: ['1'], variant: fp32, endpoints: [a]}}\n"
        "- {model: m, versions: ['1'], variant: int8, endpoints: [b]}\n"
    )
    assert pools(tmp_path, text) == {PoolKey("m", "1", "fp32"): ("a",), PoolKey("m", "1", "int8"): ("b",)}


def test_a_pool_picks_by_its_own_policy_and_else_by_that_of_all(tmp_path: Path) -> None:
    text = (
        f"{HEAD}  t: {{backend: torchserve, address: 'h:3', management_address: 'h:4'}}\n"
        "balancing: {policy: round_robin}\n"
        "pools:\n- {model: m, versions: ['1'], variant: fp32, endpoints: [a], policy: least_in_flight}\n"
        "- {model: m, versions: ['1'], variant: int8, endpoints: [b]}\n"
        "passthrough:\n- {model: own, endpoints: [t], policy: p2c}\n- {model: other, endpoints: [t]}\n"
    )
    keys = pools(tmp_path, text)
    settings = load_settings(tmp_path / "inferway.yaml", NOTHING)
    assert {(key.model, key.variant): pool_policy(settings, key) for key in keys} == {
        ("m", "fp32"): "least_in_flight",
        ("m", "int8"): "round_robin",
        ("own", ""): "p2c",
        ("other", ""): "round_robin",
    }


@pytest.fixture
def int8_is_not_in_triton(tmp_path: Path) -> None:
    path = tmp_path / "m" / "model.yaml"
    contract = yaml.safe_load(path.read_text())
    contract["versions"]["1"]["variants"]["int8"]["unpublished"] = {"triton": "it has no int8 kernels"}
    path.write_text(yaml.safe_dump(contract))


@pytest.mark.usefixtures("int8_is_not_in_triton")
def test_a_variants_pool_leaves_out_the_engines_that_do_not_publish_it(tmp_path: Path) -> None:
    head = HEAD.replace("backend: triton, address: 'h:2'", "backend: tfserving, address: 'h:2'")
    assert pools(tmp_path, f"{head}pools:\n- {{model: m, versions: ['1'], endpoints: [a, b]}}\n") == {
        PoolKey("m", "1", "fp32"): ("a", "b"),
        PoolKey("m", "1", "int8"): ("b",),
    }


@pytest.mark.usefixtures("int8_is_not_in_triton")
def test_a_variant_that_no_endpoint_publishes_has_no_pool_unless_one_is_asked_for(tmp_path: Path) -> None:
    entry = "pools:\n- {model: m, versions: ['1'], endpoints: [a, b]}\n"
    assert pools(tmp_path, HEAD + entry) == {PoolKey("m", "1", "fp32"): ("a", "b")}
    asked = "- {model: m, versions: ['1'], variant: int8, endpoints: [a]}\n"
    explicit = entry.replace("endpoints", "variant: fp32, endpoints") + asked
    message = refusal(tmp_path, HEAD + explicit)
    what = "version '1' variant 'int8' of model 'm'"
    assert message == f"inferway.yaml:7: pools.1.endpoints: none of them publishes {what}"


def test_a_passthrough_is_a_pool_without_version_and_variant(tmp_path: Path) -> None:
    text = (
        "endpoints: {t: {backend: torchserve, address: 'h:1', management_address: 'h:2'}}\n"
        "passthrough: [{model: old, endpoints: [t]}]\n"
    )
    assert pools(tmp_path, text) == {PoolKey("old", "", ""): ("t",)}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            "- {model: m, endpoints: [a]}\n- {model: mm, endpoints: [a]}\n",
            "inferway.yaml:7: pools.1.model: there is no 'mm'; did you mean 'm'?",
        ),
        (
            "- model: m\n  endpoints: [a]\n  versions:\n  - '1'\n  - '7'\n",
            "inferway.yaml:10: pools.0.versions.1: model 'm' has no '7'; known here: 1, 2",
        ),
        (
            "- model: m\n  versions: ['1']\n  variant: int4\n  endpoints: [a]\n",
            "inferway.yaml:8: pools.0.variant: version '1' of model 'm' has no 'int4'; did you mean 'int8'?",
        ),
        (
            "- {model: m, variant: int8, endpoints: [a]}\n",
            "inferway.yaml:6: pools.0.variant: version '2' of model 'm' has no 'int8'; known here: fp32",
        ),
        (
            "- {model: m, endpoints: [a]}\n- {model: m, versions: ['2'], endpoints: [b]}\n",
            "inferway.yaml:7: pools.1: version '2' variant 'fp32' of model 'm' is in a pool above; name",
        ),
        (
            "- {model: m, versions: ['2'], endpoints: [a]}\n",
            "inferway.yaml:1: models.0: no pool serves version '1' variant 'fp32' of model 'm', which",
        ),
    ],
)
def test_a_pool_that_does_not_fit_is_refused_with_its_line(
    tmp_path: Path, entries: str, message: str
) -> None:
    assert refusal(tmp_path, f"{HEAD}pools:\n{entries}").startswith(message)


def test_a_passthrough_cannot_have_the_name_of_a_model(tmp_path: Path) -> None:
    text = (
        "models: [m]\nendpoints:\n  t: {backend: torchserve, address: 'h:1', management_address: 'h:2'}\n"
        "pools:\n- {model: m, endpoints: [t]}\npassthrough:\n- {model: m, endpoints: [t]}\n"
    )
    assert refusal(tmp_path, text) == "inferway.yaml:7: passthrough.0.model: 'm' has a pool already"


def test_two_passthroughs_cannot_have_the_same_name(tmp_path: Path) -> None:
    text = (
        "endpoints:\n  t: {backend: torchserve, address: 'h:1', management_address: 'h:2'}\n"
        "passthrough:\n- {model: old, endpoints: [t]}\n- {model: old, endpoints: [t]}\n"
    )
    assert refusal(tmp_path, text) == "inferway.yaml:5: passthrough.1.model: 'old' has a pool already"


def test_a_pool_from_the_environment_is_blamed_on_it(tmp_path: Path) -> None:
    message = refusal(tmp_path, HEAD, {"INFERWAY_POOLS": "[{model: mm, endpoints: [a]}]"})
    assert message == "environment: pools.0.model: there is no 'mm'; did you mean 'm'?"


def test_settings_that_were_read_from_no_file_have_no_line(tmp_path: Path) -> None:
    settings = Settings(
        endpoints={"a": EndpointSettings(backend="onnxruntime", repository="r")},
        pools=(PoolSettings(model="m", endpoints=("a",)),),
    )
    with pytest.raises(ConfigurationError, match=r"^pools\.0\.model: there is no 'm'; none is configured$"):
        pool_endpoints(settings, load_contracts(settings, tmp_path))
