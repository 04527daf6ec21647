"""inferway.yaml: frozen sections, checked among each other, with overrides from the environment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from gateway.configuration import ConfigurationError
from gateway.loading import load_contracts, load_settings
from gateway.settings import EndpointSettings, Settings
from tests.fakes import a_version

REPOSITORY = Path(__file__).parents[2]
NOTHING: Mapping[str, str] = {}


def write(folder: Path, text: str) -> Path:
    path = folder / "inferway.yaml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str, environment: Mapping[str, str] = NOTHING) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(write(folder, text), environment)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("name", ["inferway.yaml", "inferway.full.yaml"])
def test_the_files_of_the_repository_serve_every_model(name: str) -> None:
    settings = load_settings(REPOSITORY / name, NOTHING)
    served = sorted(path.parent.name for path in REPOSITORY.glob("models/*/model.yaml"))
    assert sorted(load_contracts(settings, REPOSITORY)) == served
    assert "cnn_mnist" in served


def test_an_empty_file_listens_on_this_machine_only(tmp_path: Path) -> None:
    server = load_settings(write(tmp_path, ""), NOTHING).server
    assert (server.host, server.http_port, server.grpc_port) == ("127.0.0.1", 8080, 8081)
    assert (server.admin_host, server.admin_port) == ("127.0.0.1", 8082)


def test_settings_cannot_be_changed_once_they_are_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().server.http_port = 1


def test_ports_that_the_system_chooses_and_ports_of_other_addresses_may_be_the_same(tmp_path: Path) -> None:
    text = "server: {host: 10.0.0.1, http_port: 0, grpc_port: 0, admin_port: 0}\n"
    assert load_settings(write(tmp_path, text), {}).server.grpc_port == 0
    text = "server: {host: 10.0.0.1, http_port: 8080, admin_port: 8080}\n"
    assert load_settings(write(tmp_path, text), {}).server.admin_port == 8080


def test_an_unknown_key_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    message = refusal(tmp_path, "models: []\nserver:\n  http_prot: 1\n")
    assert message == "inferway.yaml:3: server.http_prot: unknown key; did you mean 'http_port'?"


ONE = "endpoints: {abc: {backend: triton, address: 'h:1'}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("endpoints:\n  a: {backend: triton}\n", "2: endpoints.a: every backend but onnxruntime"),
        ("endpoints:\n  a: {backend: onnxruntime, address: 'h:1'}\n", "2: endpoints.a: every back"),
        ("endpoints:\n  a: {backend: onnxruntime}\n", "2: endpoints.a: onnxruntime needs a repository"),
        (
            "endpoints:\n  a: {backend: triton, address: 'h:1', repository: r}\n",
            "2: endpoints.a: onnxruntime needs a repository, and no other backend has one",
        ),
        ("endpoints:\n  a: {backend: torchserve, address: 'h:1'}\n", "2: endpoints.a: torchserve n"),
        (
            "endpoints:\n  a: {backend: triton, address: 'h:1', management_address: 'h:2'}\n",
            "2: endpoints.a: torchserve needs management_address beside address, and nothing else has one",
        ),
        (
            "endpoints:\n  a: {backend: triton, address: 'h:1', dns: 'h:1'}\n",
            "2: endpoints.a: every backend but onnxruntime needs one of address, dns and file, and",
        ),
        ("endpoints:\n  a: {backend: onnxruntime, repository: r, file: f}\n", "2: endpoints.a: every back"),
        ("endpoints:\n  a: {backend: triton, dns: h}\n", "2: endpoints.a.dns: an address is host:port"),
        (
            "endpoints:\n  a: {backend: torchserve, dns: 'h:1'}\n",
            "2: endpoints.a: torchserve needs management_port beside dns or file, and nothing else has one",
        ),
        (
            "endpoints:\n  a: {backend: torchserve, file: f, management_address: 'h:2'}\n",
            "2: endpoints.a: torchserve needs management_address beside address, and nothing else has one",
        ),
        (
            "endpoints:\n  a: {backend: triton, dns: 'h:1', management_port: 2}\n",
            "2: endpoints.a: torchserve needs management_port beside dns or file, and nothing else has one",
        ),
        ("endpoints:\n  a: {backend: triton, address: h}\n", "2: endpoints.a.address: an address is"),
        ("endpoints:\n  a: {backend: triton, address: 'h:'}\n", "2: endpoints.a.address: an address"),
        ("endpoints:\n  a: {backend: triton, address: ':1'}\n", "2: endpoints.a.address: an address"),
        ("endpoints:\n  a: {backend: tritn}\n", "2: endpoints.a.backend: Input should be 'torchserve'"),
        ("pools:\n- {model: m, endpoints: []}\n", "2: pools.0.endpoints: expected at least one entry"),
        (
            ONE + "pools:\n- model: m\n  endpoints:\n  - abc\n  - abd\n",
            "6: pools.0.endpoints.1: there is no endpoint 'abd'; did you mean 'abc'?",
        ),
        (
            "passthrough:\n- {model: m, endpoints: [a]}\n",
            "2: passthrough.0.endpoints.0: there is no endpoint 'a'; none is configured",
        ),
        (
            "endpoints: {a: {backend: triton, address: 'h:1'}}\npassthrough: [{model: m, endpoints: [a]}]\n",
            "2: passthrough.0.endpoints.0: endpoint 'a' is not torchserve",
        ),
        (
            "endpoints: {a: {backend: onnxruntime, repository: r}}\npools: [{model: m, endpoints: [a, a]}]\n",
            "2: pools.0.endpoints: endpoint 'a' is named twice",
        ),
        ("models: models/m\n", "1: models: expected a list (got 'models/m')"),
        ("log: {}\nendpoints: [a]\n", "2: endpoints: expected a mapping"),
        ("log: loud\n", "1: log: expected a mapping (got 'loud')"),
        (
            "pools:\n- {model: m, versions: [1], endpoints: [a]}\n",
            "2: pools.0.versions.0: expected text; put it in quotes (got 1)",
        ),
        ("server: {http_port: 70000}\n", "1: server.http_port: Input should be less than or equal"),
        ("server: {http_port: 8081}\n", "1: server: http_port, grpc_port and admin_port must differ"),
        (
            "server: {host: 0.0.0.0, http_port: 8082}\n",
            "1: server: http_port, grpc_port and admin_port must differ",
        ),
        ("server: {max_request_bytes: 0}\n", "1: server.max_request_bytes: Input should be greater"),
        ("retry: {max_attempts: 0}\n", "1: retry.max_attempts: Input should be greater than or"),
        ("retry: {budget_ratio: 1.5}\n", "1: retry.budget_ratio: Input should be less than or"),
        ("balancing: {attempt_timeout_seconds: 0}\n", "1: balancing.attempt_timeout_seconds: Input"),
        ("log: {level: loud}\n", "1: log.level: Input should be 'debug'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text).startswith(f"inferway.yaml:{message}")


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:6379", "http://a:6379", "redis://", "redis://a:port", "redis://a/cache", "redis://[::1"],
)
def test_what_redis_would_not_take_for_its_address_is_refused_with_its_line(tmp_path: Path, url: str) -> None:
    text = yaml.safe_dump({"cache": {"redis": {"url": url}}})
    assert refusal(tmp_path, text).startswith("inferway.yaml:3: cache.redis.url: expected redis://host:port/")


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"cluster": True}, "cluster needs url: the address of one of its nodes"),
        (
            {"cluster": True, "url": "redis://a:6379/1"},
            "a cluster has only database 0: leave the number out of url",
        ),
    ],
)
def test_what_a_redis_cluster_cannot_have_is_refused_with_the_mend(
    tmp_path: Path, section: dict[str, object], reason: str
) -> None:
    for name in ("cache", "keys", "quotas"):
        assert reason in refusal(tmp_path, yaml.safe_dump({name: {"redis": section}}))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://a",
        "rediss://user:word@a:6379/1",  # pragma: allowlist secret
        "redis://[::1]:6379/0",
    ],
)
def test_an_address_of_redis_is_taken_as_it_is(tmp_path: Path, url: str) -> None:
    text = yaml.safe_dump({"cache": {"redis": {"url": url}}})
    assert load_settings(write(tmp_path, text), NOTHING).cache.redis.url == url


@pytest.mark.parametrize("address", ["127.0.0.1:8001", "[::1]:8001", "triton.models.svc:8001"])
def test_an_address_is_host_and_port(tmp_path: Path, address: str) -> None:
    text = yaml.safe_dump({"endpoints": {"a": {"backend": "triton", "address": address}}})
    assert load_settings(write(tmp_path, text), NOTHING).endpoints["a"].address == address


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environment = {"INFERWAY_SERVER__HTTP_PORT": "9000", "INFERWAY_CACHE__REDIS__URL": "redis://h:6379/0"}
    settings = load_settings(write(tmp_path, "server: {http_port: 1, grpc_port: 2}\n"), environment)
    assert (settings.server.http_port, settings.server.grpc_port) == (9000, 2)
    assert settings.cache.redis.url == "redis://h:6379/0"


def test_a_value_of_the_environment_is_read_as_yaml_reads_it(tmp_path: Path) -> None:
    environment = {"INFERWAY_MODELS": "[a, b]", "INFERWAY_RETRY__BUDGET_RATIO": "0.5"}
    settings = load_settings(write(tmp_path, "models: [c]\n"), environment)
    assert (settings.models, settings.retry.budget_ratio) == (("a", "b"), 0.5)


def test_other_variables_of_the_environment_do_not_count(tmp_path: Path) -> None:
    environment = {"SERVER__HTTP_PORT": "1", "MY_INFERWAY_SERVER__HTTP_PORT": "1"}
    assert load_settings(write(tmp_path, ""), environment).model_dump() == Settings().model_dump()


def test_without_an_argument_it_is_the_environment_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERWAY_SERVER__HTTP_PORT", "9000")
    assert load_settings(write(tmp_path, "")).server.http_port == 9000


def test_a_wrong_value_of_the_environment_is_blamed_on_it(tmp_path: Path) -> None:
    message = refusal(tmp_path, "server: {http_port: 1}\n", {"INFERWAY_SERVER__HTTP_PORT": "http"})
    assert message.startswith("environment: server.http_port: Input should be a valid integer")


@pytest.mark.parametrize("value", ["{", "a: b: c", "[::1]:80"])
def test_a_value_of_the_environment_that_is_not_yaml_is_named(tmp_path: Path, value: str) -> None:
    message = refusal(tmp_path, "", {"INFERWAY_SERVER__HOST": value})
    assert message.startswith("environment: INFERWAY_SERVER__HOST: not YAML")


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("INFERWAY_SERVER", "INFERWAY_SERVER__HTTP_PORT"),
        ("INFERWAY_CACHE__REDIS", "INFERWAY_CACHE__REDIS__URL"),
    ],
)
def test_a_variable_that_contradicts_another_one_is_named(tmp_path: Path, outer: str, inner: str) -> None:
    message = refusal(tmp_path, "", {outer: "5", inner: "9000"})
    assert message == f"environment: {inner}: {outer} is set too, and is no mapping"


A_VERSION: Mapping[str, Any] = a_version("fp32")


def a_model(folder: Path, name: str, **change: Any) -> None:
    folder.mkdir()
    contract = {
        "name": name,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
        "default_version": "1",
        "versions": {"1": A_VERSION},
        **change,
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(contract))


def test_contracts_go_by_their_names_and_know_their_folders(tmp_path: Path) -> None:
    a_model(tmp_path / "one", "m1")
    a_model(tmp_path / "two", "m2")
    contracts = load_contracts(Settings(models=("one", "two")), tmp_path)
    assert {name: contract.folder for name, contract in contracts.items()} == {
        "m1": tmp_path / "one",
        "m2": tmp_path / "two",
    }


def test_two_folders_cannot_hold_the_same_model(tmp_path: Path) -> None:
    a_model(tmp_path / "one", "m")
    a_model(tmp_path / "two", "m")
    with pytest.raises(ConfigurationError, match=r"two/model\.yaml:1: model 'm' is in .*one too"):
        load_contracts(Settings(models=("one", "two")), tmp_path)


def test_a_model_folder_without_a_model_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere/model\.yaml: cannot be read"):
        load_contracts(Settings(models=("nowhere",)), tmp_path)


def test_a_model_folder_that_is_not_there_is_told_with_the_line_that_names_it(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "models:\n- nowhere\n"), NOTHING)
    with pytest.raises(
        ConfigurationError, match=r"inferway\.yaml:2: models\.0: nowhere/model\.yaml: cannot be"
    ):
        load_contracts(settings, Path())


def test_an_example_that_is_not_there_is_told_with_its_line(tmp_path: Path) -> None:
    a_model(tmp_path / "one", "m", example="seven.png")
    text = (tmp_path / "one" / "model.yaml").read_text().splitlines()
    line = next(n for n, content in enumerate(text, 1) if content.startswith("example: "))
    with pytest.raises(ConfigurationError, match=rf"one/model\.yaml:{line}: example: there is no file"):
        load_contracts(Settings(models=("one",)), tmp_path)


def test_a_wrong_model_file_is_told_with_its_line(tmp_path: Path) -> None:
    a_model(tmp_path / "one", "m")
    path = tmp_path / "one" / "model.yaml"
    path.write_text(path.read_text() + "timeuot_seconds: 1\n")
    line = len(path.read_text().splitlines())
    with pytest.raises(
        ConfigurationError, match=rf"model\.yaml:{line}: timeuot_seconds: unknown key; did you"
    ):
        load_contracts(Settings(models=("one",)), tmp_path)


def test_a_found_address_has_its_entrys_settings_and_the_management_port(tmp_path: Path) -> None:
    path = tmp_path / "inferway.yaml"
    path.write_text("endpoints: {t: {backend: torchserve, dns: 'pods:7070', management_port: 7071}}\n")
    entry = load_settings(path, {}).endpoints["t"]
    here = entry.at("[fd00::1]:7070")
    assert (entry.is_discovered, here.is_discovered, entry.dns_name) == (True, False, "pods")
    assert (here.address, here.management_address) == ("[fd00::1]:7070", "[fd00::1]:7071")
    assert EndpointSettings.model_validate(here.model_dump()) == here


def test_a_configuration_can_be_loaded_once_more_from_its_texts_whatever_has_become_of_its_files(
    tmp_path: Path,
) -> None:
    a_model(tmp_path / "one", "m")
    path = write(tmp_path, "models: [one]\nserver: {processes: 2}\n")
    settings = load_settings(path, NOTHING)
    contracts = load_contracts(settings, tmp_path)
    assert set(settings.texts) == {str(path), str(tmp_path / "one" / "model.yaml")}
    path.write_text("models: [")
    (tmp_path / "one" / "model.yaml").unlink()
    again = load_settings(path, NOTHING, settings.texts)
    assert again.model_dump() == settings.model_dump()
    assert load_contracts(again, tmp_path)["m"].model_dump() == contracts["m"].model_dump()
    with pytest.raises(ConfigurationError, match=r"inferway\.yaml:2: not YAML"):
        load_settings(path, NOTHING)
