"""Start Prometheus with the project's own configuration and rules (deploy/prometheus)."""

import http.client
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from services.launch import Launch, LaunchError

CONFIGURATION = Path(__file__).parents[1] / "deploy" / "prometheus"
PROBE_SECONDS = 1.0


def launch(
    *,
    run_dir: Path,
    targets: Mapping[str, str],
    alertmanagers: Sequence[str] = (),
    port: int = 9090,
    host: str = "127.0.0.1",
) -> Launch:
    """Write the configuration with these targets into `run_dir` and say how to start Prometheus.

    All else is as in deploy/prometheus: intervals, rules and alerts.

    Args:
        run_dir: configuration, samples and log.
        targets: host:port of each `/metrics`, by the job's name.
        alertmanagers: host:port of each Alertmanager; without one, alerts are seen on Prometheus' own page.
        port: where to listen.
        host: the interface.

    Raises:
        LaunchError: prometheus is not installed.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise LaunchError("prometheus is not installed (Debian: apt-get install prometheus)")
    run_dir.mkdir(parents=True, exist_ok=True)
    configuration = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text())
    for name in configuration["rule_files"]:
        shutil.copyfile(CONFIGURATION / name, run_dir / name)
    configuration["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [*alertmanagers]}]}]}
    configuration["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [address]}]} for job, address in targets.items()
    ]
    (run_dir / "prometheus.yml").write_text(yaml.safe_dump(configuration, sort_keys=False))
    return Launch(
        name="prometheus",
        argv=[
            program,
            f"--config.file={run_dir / 'prometheus.yml'}",
            f"--storage.tsdb.path={run_dir / 'samples'}",
            "--storage.tsdb.retention.time=1d",
            f"--web.listen-address={host}:{port}",
            "--log.level=warn",
        ],
        is_ready=lambda: answers(host, port, "/-/ready"),
        log=run_dir / "prometheus.log",
        timeout_seconds=30.0,
        addresses={"http": f"{host}:{port}"},
    )


def answers(host: str, port: int, path: str) -> bool:
    """Whether an HTTP server answers 200 there."""
    connection = http.client.HTTPConnection(host, port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
