"""docs/bring-your-own-model.md, done as it says: a file from elsewhere, and engines that run already."""

import json
import re
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.app import build
from gateway.loading import load_settings
from services.launch import Launch, Running, free_port
from services.local_gateway import is_up, problems
from tests.docs.pages import fenced, text
from tests.serving import ROOT, answers_200, running_gateway, running_triton

pytestmark = pytest.mark.engine

PAGE = text("bring-your-own-model.md")
SHELL = fenced(PAGE, "sh")
SAID = fenced(PAGE, "text")
YAML = fenced(PAGE, "yaml")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder where the page's commands find what they find in the project's."""
    for name in (".venvs", "gateway", "services"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def typed(block: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-euo", "pipefail", "-c", block]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def launch(start: str, folder: Path) -> Launch:
    """The page's command, on free ports."""
    ports = {name: free_port() for name in ("http", "grpc", "admin")}
    addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    return Launch(
        name="gateway",
        argv=["bash", "-c", f"exec {start.strip()}"],
        is_ready=partial(is_up, addresses),
        log=folder / "gateway.log",
        env={f"INFERWAY_SERVER__{name.upper()}_PORT": str(port) for name, port in ports.items()},
        cwd=folder,
        addresses=addresses,
    )


def test_an_onnx_file_of_ones_own_is_served_by_what_the_page_says(project: Path) -> None:
    make, look, configure, start, ask = SHELL
    for block, said in ((make, ""), (look, SAID[0]), (configure, SAID[1])):
        done = typed(block, project)
        assert (done.returncode, done.stdout) == (0, said), done.stderr
    gateway = launch(start, project)
    with Running(gateway):
        for line in ask.replace("127.0.0.1:8080", gateway.addresses["http"]).splitlines():
            done = typed(line, project)
            assert re.findall(r"[\d.]+(?=[,\s\]])", done.stdout)[-3:] == ["2.0", "4.0", "6.0"], done.stdout
        assert answers_200(f"http://{gateway.addresses['http']}/v2/health/ready")


def test_a_file_that_cannot_be_loaded_keeps_no_other_model_from_being_served(project: Path) -> None:
    make, _, configure, start, ask = SHELL
    assert typed(make + configure, project).returncode == 0
    broken = project / "mine" / "broken" / "model.yaml"
    broken.parent.mkdir()
    broken.write_text((project / "mine/doubler/model.yaml").read_text().replace("doubler", "broken"))
    file = project / "mine/networks/broken/1/model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no network")
    configuration = project / "mine/inferway.yaml"
    text = configuration.read_text().replace("[doubler]", "[doubler, broken]")
    configuration.write_text(f"{text}  - {{model: broken, endpoints: [mine]}}\n")
    gateway = launch(start, project)
    with Running(gateway):
        done = typed(ask.splitlines()[0].replace("127.0.0.1:8080", gateway.addresses["http"]), project)
        assert '"data":[2.0,4.0,6.0]' in done.stdout
        (problem,) = problems(gateway)
        assert problem.startswith("mine/networks/broken/1/model.onnx: ONNX Runtime cannot load it: ")
        assert not answers_200(f"http://{gateway.addresses['http']}/v2/health/ready")


def test_a_contract_that_the_file_does_not_fit_is_told_by_the_check(project: Path) -> None:
    make, _, configure, *_ = SHELL
    assert typed(make, project).returncode == 0
    done = typed(configure.replace("{name: y, datatype: FP32", "{name: y, datatype: INT32"), project)
    assert (done.returncode, done.stdout) == (2, "")
    file = "mine/networks/doubler/1/model.onnx"
    wrong = "output 'y': it is FP32 [-1, 3] here, and INT32 [-1, 3] (max_batch_size 8)"
    assert done.stderr == f"{file}: {wrong} in mine/doubler/model.yaml\n"


def test_a_triton_that_runs_already_is_asked_by_the_smallest_contract(tmp_path: Path) -> None:
    contract, configuration, _ = YAML
    (tmp_path / "cnn_mnist").mkdir()
    (tmp_path / "cnn_mnist" / "model.yaml").write_text(contract)
    with running_triton(tmp_path / "triton") as engine:
        settings = yaml.safe_load(configuration.replace("127.0.0.1:8001", engine.endpoint["address"]))
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": [0.0] * 784}
        body = json.dumps({"inputs": [tensor]})
        with running_gateway(tmp_path, settings) as gateway:
            url = f"http://{gateway.http}/v2/models/cnn_mnist/infer"
            answered: dict[str, Any] = json.loads(typed(f"curl -s -d '{body}' {url}", tmp_path).stdout)
    assert answered["outputs"][0]["shape"] == [1, 10]


def test_a_torchserve_that_runs_already_is_taken_without_a_contract(tmp_path: Path) -> None:
    path = tmp_path / "inferway.yaml"
    path.write_text(YAML[2])
    assert build(load_settings(path, {}), tmp_path).serving.catalog.names == ["team"]
