"""What `make up`, `make status` and `make down` do; ports that settings can move are moved out of the way."""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from services.launch import free_port
from tests.load import distinct_images, drive
from tests.observability.monitoring import running_prometheus
from tests.serving import MODEL, ROOT, VENVS, StartedGateway

RULE = "model_version_protocol:gateway_request_duration_seconds:p99"
SCRAPED_SECONDS = 60.0


@pytest.fixture
def environment() -> Mapping[str, str]:
    ports = {f"INFERWAY_SERVER__{name}_PORT": str(free_port()) for name in ("HTTP", "GRPC", "ADMIN")}
    return {**os.environ, **ports}


def _moved_engines() -> Mapping[str, str]:
    return {
        "INFERWAY_CACHE__REDIS__URL": f"redis://127.0.0.1:{free_port()}/0",
        "INFERWAY_ENDPOINTS__TRITON__ADDRESS": f"127.0.0.1:{free_port()}",
        "INFERWAY_ENDPOINTS__TFSERVING__ADDRESS": f"127.0.0.1:{free_port()}",
        "INFERWAY_ENDPOINTS__TORCHSERVE__ADDRESS": f"127.0.0.1:{free_port()}",
        "INFERWAY_ENDPOINTS__TORCHSERVE__MANAGEMENT_ADDRESS": f"127.0.0.1:{free_port()}",
    }


@pytest.fixture
def run(tmp_path: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    yield tmp_path
    _local("down", tmp_path, environment)


def _local(action: str, run: Path, environment: Mapping[str, str], *options: str) -> str:
    python = VENVS / "gateway" / "bin" / "python"
    command = [str(python), "-m", "services.local", action, "--run", str(run), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def _answer(printed: str) -> dict[str, float]:
    """What the printed curl answers."""
    command = next(line for line in printed.splitlines() if line.strip().startswith("curl"))
    done = subprocess.run(command.split(), capture_output=True, text=True, cwd=ROOT, check=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def _lives(pid: int) -> bool:
    """Whether that process runs; one that has ended and waits for its parent to notice does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _left(run: Path) -> list[str]:
    """Processes that still have to do with this run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(run) in line and process.pid != os.getpid() and "pytest" not in line:
            found.append(line)
    return found


def test_embedded_stack_answers_the_printed_curl_and_leaves_nothing(
    run: Path, environment: Mapping[str, str]
) -> None:
    printed = _local("up", run, environment)
    answer = _answer(printed)
    assert max(answer, key=answer.__getitem__) == "7"
    assert "is up already" in _local("up", run, environment)
    gateway = next(line for line in _local("status", run, environment).splitlines() if "gateway" in line)
    pid = int(gateway.split()[2])
    assert "running" in gateway
    assert _lives(pid)
    assert "stopped gateway" in _local("down", run, environment)
    assert not _lives(pid)
    assert "nothing was started" in _local("status", run, environment)


@pytest.mark.engine
def test_full_stack_runs_every_part_and_leaves_nothing(run: Path, environment: Mapping[str, str]) -> None:
    environment = {**environment, **_moved_engines()}
    printed = _local("up", run, environment, "--stack", "full")
    table = _local("status", run, environment).splitlines()[1:]
    parts = ("redis", "prometheus", "torchserve", "triton", "tfserving (stand-in)", "gateway")
    for part in parts:
        line = next(line for line in table if line.startswith(part))
        assert "running" in line, line
    answer = _answer(printed)
    assert max(answer, key=answer.__getitem__) == "7"
    _local("down", run, environment)
    assert _left(run) == []


def test_prometheus_scrapes_the_gateway_and_computes_its_quantiles(
    embedded_gateway: StartedGateway, tmp_path: Path
) -> None:
    with running_prometheus(tmp_path, embedded_gateway.admin) as prometheus:
        give_up = time.monotonic() + SCRAPED_SECONDS
        while not (found := prometheus.query(RULE + f'{{model="{MODEL}",protocol="oip_http"}} > 0')):
            assert time.monotonic() < give_up, "the rule has no value"
            asyncio.run(drive(embedded_gateway.http, distinct_images(50), connections=2))
            time.sleep(0.5)
        assert found[0]["metric"]["version"] == "1"
        targets = prometheus.query("up")
    assert [sample["value"][1] for sample in targets] == ["1"]
