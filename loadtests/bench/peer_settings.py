"""How each peer is started and asked: one ONNX file, one worker, one thread, batches of up to 32."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.bench.sources import BINARY, JSON, OIP_JSON, Encoding, plain_bytes, plain_json
from services.launch import free_port
from tests.serving import MODEL, ROOT

SERVERS = ROOT / "loadtests" / "peers"
BATCH = 32


@dataclass(frozen=True, slots=True)
class Peer:
    """One server to compare with.

    Attributes:
        title: its name, as people write it.
        package: of its environment, whose version is reported.
        argv: what its environment's Python runs, from the port and a folder where it may write.
        encodings: how it is asked.
        settings: what was switched on, for the page.
        env: added to its environment.
    """

    title: str
    package: str
    argv: Callable[[int, Path], Sequence[str]]
    encodings: Mapping[str, Encoding]
    settings: str
    env: Mapping[str, str] = field(default_factory=dict)


def _script(name: str) -> Callable[[int, Path], Sequence[str]]:
    return lambda port, _: [str(SERVERS / name), str(port)]


def _mosec(port: int, _: Path) -> Sequence[str]:
    options = ["--address", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    return [str(SERVERS / "mosec_server.py"), *options]


def _bentoml(port: int, _: Path) -> Sequence[str]:
    options = ["--host", "127.0.0.1", "--port", str(port), "--working-dir", str(SERVERS)]
    return ["-m", "bentoml", "serve", "bentoml_service:Digits", *options]


def _mlserver(port: int, folder: Path) -> Sequence[str]:
    """Its settings are files; it infers in the server's own process, which is faster here than a worker."""
    server = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
        "debug": False,
        "environments_dir": str(folder / "environments"),
    }
    model = {
        "name": MODEL,
        "implementation": "mlserver_runtime.Digits",
        "max_batch_size": BATCH,
        "max_batch_time": 0.001,
    }
    for name, content in (("settings", server), ("model-settings", model)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return ["-c", "from mlserver.cli import main; main()", "start", str(folder)]


_PLAIN = plain_json("/predict", lambda image: {"image": image}, lambda reply: reply["probabilities"])

PEERS: Mapping[str, Peer] = {
    "mosec": Peer(
        "mosec",
        "mosec",
        _mosec,
        {
            JSON: plain_json("/json", lambda image: {"image": image}, lambda reply: reply["probabilities"]),
            BINARY: plain_bytes("/binary"),
        },
        (
            "Rust front, one worker process; batches of up to 32, waiting up to 1 ms; "
            "a bug that ends its worker under load is mended (`loadtests/peers/whole_reads.py`)"
        ),
        {"PYTHONPATH": str(ROOT)},
    ),
    "mlserver": Peer(
        "MLServer",
        "mlserver",
        _mlserver,
        {JSON: OIP_JSON},
        "adaptive batching (32, 1 ms), `parallel_workers: 0`, uvloop; OIP",
        {"PYTHONPATH": str(SERVERS)},
    ),
    "bentoml": Peer(
        "BentoML",
        "bentoml",
        _bentoml,
        {JSON: plain_json("/infer", lambda image: {"images": [image]}, lambda reply: reply[0])},
        "one worker, adaptive batching (`batchable`, up to 32), uvloop",
        {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    "litserve": Peer(
        "LitServe",
        "litserve",
        _script("litserve_server.py"),
        {JSON: _PLAIN},
        "one worker process, batches of up to 32 within 1 ms, `fast_queue`, uvloop",
    ),
    "ray": Peer(
        "Ray Serve",
        "ray",
        _script("ray_server.py"),
        {JSON: plain_json("/", lambda image: {"image": image}, lambda reply: reply["probabilities"])},
        "one replica, `serve.batch` of up to 32 within 1 ms, no dashboard",
        {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"},
    ),
}
