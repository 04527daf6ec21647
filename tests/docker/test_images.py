"""The images: what each holds and what it does not, as the engine sees it."""

import json
from typing import Any

import pytest

from gateway import __version__
from tests.docker.engine import Engine
from tests.docker.images import DOCKERFILES, REVISION, image
from tests.docker.stand_ins import images

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]

GATEWAY_BYTES = 250_000_000
"""How much larger the gateway's image may be than the one that it is made from."""
LABELS = ("title", "description", "licenses", "version", "revision")
every_image = pytest.mark.parametrize("name", DOCKERFILES)


def inspected(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.client.api.inspect_image(name)
    return found


def run(engine: Engine, name: str, *command: str) -> str:
    """The output of a command in a container of the image, as locked up as the stack's are."""
    container = engine.client.containers.run(
        image(name),
        list(command[1:]),
        entrypoint=command[0],
        detach=True,
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="none",
    )
    try:
        status = container.wait()["StatusCode"]
        # Asked for afterwards: whoever follows them misses, now and then, a last line without an end.
        output: bytes = container.logs(stderr=False)
        assert status == 0, container.logs()
    finally:
        container.remove(force=True)
    return output.decode()


def test_the_gateway_adds_no_more_to_its_base_than_it_may(engine: Engine) -> None:
    base = inspected(engine, images()["python"])["Size"]
    assert inspected(engine, image("gateway"))["Size"] - base <= GATEWAY_BYTES


@every_image
def test_it_runs_as_a_user_without_rights(engine: Engine, name: str) -> None:
    assert inspected(engine, image(name))["Config"]["User"] == "1000:1000"
    assert run(engine, name, "id", "-u") == "1000\n"


@every_image
def test_its_labels_say_what_it_is(engine: Engine, name: str) -> None:
    labels = inspected(engine, image(name))["Config"]["Labels"]
    assert all(labels[f"org.opencontainers.image.{label}"] for label in LABELS)
    assert labels["org.opencontainers.image.title"] == f"inferway/{name}"
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.revision"] == REVISION


@every_image
def test_a_signal_reaches_the_server_and_no_shell(engine: Engine, name: str) -> None:
    config = inspected(engine, image(name))["Config"]
    entry = config["Entrypoint"]
    assert "-c" not in entry
    if entry[0] == "/bin/sh":  # a script, which ends in becoming the server
        last = run(engine, name, "tail", "-n1", entry[1])
        assert last.startswith("exec ")


@every_image
def test_it_says_how_its_health_is_asked(engine: Engine, name: str) -> None:
    test = inspected(engine, image(name))["Config"]["Healthcheck"]["Test"]
    if name == "models":
        assert test == ["NONE"]
    else:
        assert test[0] == "CMD"
        assert not {"curl", "wget"} & set(" ".join(test).split())


@pytest.mark.parametrize("name", [name for name in DOCKERFILES if name != "tfserving"])
def test_no_build_tools_are_left(engine: Engine, name: str) -> None:
    found = run(engine, name, "sh", "-c", "command -v pip pip3 gcc cc make git wheel; true")
    assert found == ""
    code = "import importlib.util as u; print(u.find_spec('pip'), u.find_spec('setuptools'))"
    assert run(engine, name, "python3", "-c", code) == "None None\n"


@pytest.mark.parametrize(
    ("name", "package"), [("gateway", "onnxruntime"), ("torchserve", "torch"), ("triton", "PyYAML")]
)
def test_its_bill_of_materials_names_what_is_installed(engine: Engine, name: str, package: str) -> None:
    bill = json.loads(run(engine, name, "cat", f"/usr/share/sbom/{name}.cdx.json"))
    assert bill["bomFormat"] == "CycloneDX"
    named = {component["name"].lower(): component["version"] for component in bill["components"]}
    code = "import importlib.metadata as m; print(*(f'{d.name}={d.version}' for d in m.distributions()))"
    pairs = run(engine, name, "/opt/venv/bin/python3", "-c", code).lower().split()
    assert package.lower() in named
    assert dict(pair.split("=") for pair in pairs).items() >= named.items()


def test_the_gateway_has_neither_tests_nor_weights(engine: Engine) -> None:
    unwanted = ("-name", "tests", "-o", "-name", "*.safetensors", "-o", "-name", "*.onnx")
    found = run(engine, "gateway", "find", "/opt", *unwanted)
    assert found == ""


def test_the_gateway_checks_a_configuration_in_a_container_that_cannot_write(engine: Engine) -> None:
    command = ("python3", "-m", "gateway", "--config", "inferway.full.yaml", "--check")
    assert "ok" in run(engine, "gateway", *command)
