"""`make load` against a real gateway: every kind of user, every model, every shape, and the reports."""

import csv
import json
import os
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.serving import EMBEDDED, ROOT, StartedGateway, running_gateway

MODELS = sorted(path.parent.name for path in ROOT.glob("models/*/model.yaml"))
PROTOCOLS = (
    "OIP JSON",
    "OIP binary",
    "OIP gRPC",
    "TF Serving REST",
    "TF Serving gRPC",
    "TorchServe REST",
    "TorchServe gRPC",
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedGateway]:
    """A gateway that serves every model by itself."""
    configuration = {
        "models": [str(ROOT / "models" / name) for name in MODELS],
        "endpoints": {"embedded": EMBEDDED},
        "pools": [{"model": name, "endpoints": ["embedded"]} for name in MODELS],
    }
    with running_gateway(tmp_path_factory.mktemp("load"), configuration) as started:
        yield started


def load(gateway: StartedGateway, reports: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`make load` with these variables, on the gateway's ports."""
    settings = {
        "HTTP": f"http://{gateway.http}",
        "GRPC": gateway.grpc,
        "ADMIN": f"http://{gateway.admin}",
        "REPORTS": str(reports),
        **variables,
    }
    # not what a make around these tests hands down
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    arguments = [f"{name}={value}" for name, value in settings.items()]
    return subprocess.run(
        ["make", "load", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def rows(reports: Path) -> dict[str, dict[str, str]]:
    """The report's table, by name."""
    with (reports / "load_stats.csv").open() as file:
        return {row["Name"]: row for row in csv.DictReader(file)}


def test_every_kind_of_user_asks_every_model_and_every_answer_is_right(
    gateway: StartedGateway, tmp_path: Path
) -> None:
    done = load(gateway, tmp_path, SHAPE="tour", USERS="7", TIME="120s")
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(tmp_path)
    total = found.pop("Aggregated")
    assert total["Failure Count"] == "0"
    assert {*found} == {f"{protocol} {model}" for protocol, model in product(PROTOCOLS, MODELS)}
    assert all(int(row["Request Count"]) > 0 for row in found.values())
    assert "answered by: " in done.stdout
    assert "unknown" not in done.stdout
    assert "no reference" not in done.stderr
    page = (tmp_path / "load.html").read_text()
    assert all(protocol in page for protocol in PROTOCOLS)


@pytest.mark.parametrize("shape", ["ramp", "spike"])
def test_a_shape_runs_to_its_end(gateway: StartedGateway, tmp_path: Path, shape: str) -> None:
    done = load(
        gateway, tmp_path, SHAPE=shape, USERS="4", TIME="3s", KINDS="OipBinaryUser", MODELS="diamonds"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {*rows(tmp_path)} == {"OIP binary diamonds", "Aggregated"}


def test_a_soak_too_short_to_tell_is_reported_and_not_called_flat(
    gateway: StartedGateway, tmp_path: Path
) -> None:
    done = load(
        gateway, tmp_path, SHAPE="soak", USERS="2", TIME="3s", KINDS="OipBinaryUser", MODELS="diamonds"
    )
    assert done.returncode != 0
    soak = json.loads((tmp_path / "soak.json").read_text())
    assert not soak["is_flat"]
    assert soak["settings"]["models"] == "diamonds"
    assert "0 failures" in soak["verdict"]
    assert (tmp_path / "soak.svg").exists()


def test_distinct_inputs_are_answered_by_no_cache(gateway: StartedGateway, tmp_path: Path) -> None:
    done = load(gateway, tmp_path, DISTINCT="1", TIME="2s", KINDS="OipGrpcUser", MODELS="cnn_mnist")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answered by: miss 100.0%" in done.stdout


def test_a_wrong_answer_is_a_failure(gateway: StartedGateway, tmp_path: Path) -> None:
    """Nobody answers at this gRPC address, and REST gets what is no answer."""
    wrong = {"HTTP": f"http://{gateway.admin}", "GRPC": "127.0.0.1:1"}
    done = load(gateway, tmp_path, TIME="2s", USERS="7", MODELS="diamonds", **wrong)
    assert done.returncode != 0
    total = rows(tmp_path)["Aggregated"]
    assert total["Failure Count"] == total["Request Count"] != "0"
