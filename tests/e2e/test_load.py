"""`make load` against a real gateway: every kind of user, every model, every shape, and the reports."""

import csv
import json
import os
import subprocess
from itertools import product
from pathlib import Path

from tests.serving import ROOT, StartedGateway

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
    whole_gateway: StartedGateway, tmp_path: Path
) -> None:
    done = load(whole_gateway, tmp_path, SHAPE="tour", USERS="7", TIME="120s")
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


def test_distinct_inputs_are_answered_by_no_cache_and_a_ramp_ends(
    whole_gateway: StartedGateway, tmp_path: Path
) -> None:
    done = load(
        whole_gateway,
        tmp_path,
        SHAPE="ramp",
        DISTINCT="1",
        TIME="3s",
        KINDS="OipGrpcUser",
        MODELS="cnn_mnist",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {*rows(tmp_path)} == {"OIP gRPC cnn_mnist", "Aggregated"}
    assert "answered by: miss 100.0%" in done.stdout


def test_what_is_no_right_answer_is_a_failure_and_a_spike_ends(
    whole_gateway: StartedGateway, tmp_path: Path
) -> None:
    nobody = "127.0.0.1:1"
    wrong = {"HTTP": f"http://{whole_gateway.admin}", "GRPC": nobody}
    done = load(whole_gateway, tmp_path, SHAPE="spike", USERS="35", TIME="3s", MODELS="diamonds", **wrong)
    assert done.returncode != 0
    total = rows(tmp_path)["Aggregated"]
    assert total["Failure Count"] == total["Request Count"] != "0"


def test_a_soak_too_short_to_tell_is_drawn_and_not_called_flat(
    whole_gateway: StartedGateway, tmp_path: Path
) -> None:
    done = load(whole_gateway, tmp_path, SHAPE="soak", TIME="3s", KINDS="OipBinaryUser", MODELS="diamonds")
    assert done.returncode != 0
    soak = json.loads((tmp_path / "soak.json").read_text())
    assert not soak["is_flat"]
    assert soak["settings"]["models"] == "diamonds"
    assert "0 failures" in soak["verdict"]
    assert (tmp_path / "soak.svg").exists()
