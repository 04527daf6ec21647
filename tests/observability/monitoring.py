"""A real Prometheus and a real Alertmanager for the tests, with the project's own configuration and rules."""

import http.server
import json
import shutil
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from services import prometheus
from services.launch import Launch, Running, free_port

ROOT = Path(__file__).parents[2]
ALERTMANAGER = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
EVERY = "2s"
"""Also how long a scrape may take: a busy machine is not a lost gateway."""


class Api:
    """An HTTP API that answers JSON.

    Args:
        address: host:port.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, **parameters: str) -> Any:
        """What a GET answers; urllib.error.HTTPError when that is no 200."""
        url = f"http://{self.address}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.load(reply)

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of an instant query to Prometheus."""
        result: list[dict[str, Any]] = self.get("/api/v1/query", query=expr)["data"]["result"]
        return result

    def alerts(self) -> list[dict[str, str]]:
        """The labels of what is active and not inhibited in Alertmanager."""
        active = self.get("/api/v2/alerts", active="true", silenced="false", inhibited="false")
        return [alert["labels"] for alert in active]


@contextmanager
def running_prometheus(folder: Path, gateway: str, alertmanagers: Sequence[str] = ()) -> Iterator[Api]:
    """Prometheus; it scrapes the gateway with this admin address, more often than the project has it."""
    port = free_port()
    launch = prometheus.launch(
        run_dir=folder, targets={"gateway": gateway}, alertmanagers=alertmanagers, port=port
    )
    _hurry(folder)
    with Running(launch):
        yield Api(f"127.0.0.1:{port}")


def _hurry(folder: Path) -> None:
    """Scrape and evaluate more often: the rules compute the same, and for how long an alert holds stays."""
    path = folder / "prometheus.yml"
    configuration = yaml.safe_load(path.read_text())
    configuration["global"].update(scrape_interval=EVERY, evaluation_interval=EVERY)
    path.write_text(yaml.safe_dump(configuration))
    for name in configuration["rule_files"]:
        rules = yaml.safe_load((folder / name).read_text())
        for group in rules["groups"]:
            group.pop("interval", None)
        (folder / name).write_text(yaml.safe_dump(rules, sort_keys=False))


@contextmanager
def running_alertmanager(folder: Path, webhook: str) -> Iterator[Api]:
    """Alertmanager with its own configuration, but for the secret's path and how long it gathers alerts."""
    port = free_port()
    folder.mkdir(parents=True)
    secret = folder / "alert_webhook_url"
    secret.write_text(webhook)
    configuration = yaml.safe_load(ALERTMANAGER.read_text())
    configuration["receivers"][0]["slack_configs"][0]["api_url_file"] = str(secret)
    configuration["route"].update(group_wait="1s", group_interval="1s")
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(configuration))
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    assert program, "alertmanager is not installed (Debian: apt-get install prometheus-alertmanager)"
    launch = Launch(
        name="alertmanager",
        argv=[
            program,
            f"--config.file={path}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        is_ready=lambda: prometheus.answers("127.0.0.1", port, "/-/ready"),
        log=folder / "alertmanager.log",
        timeout_seconds=30.0,
    )
    with Running(launch):
        yield Api(f"127.0.0.1:{port}")


@contextmanager
def chat() -> Iterator[tuple[str, list[str]]]:
    """An incoming webhook as Slack has it: its URL, and the titles of what was sent there."""
    titles: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            titles.extend(attachment["title"] for attachment in body["attachments"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Nothing: the test prints."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", titles
        finally:
            server.shutdown()
            thread.join()


def until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait; AssertionError when it does not come true in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.5)
