"""Start the real TorchServe: `python -m services.torchserve.run --help`, or `launch` from Python.

The JVM is started directly. TorchServe's own launcher leaves it running when it is told to stop, and this way
the process that is signalled is the server.
"""

import argparse
import http.client
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import NoReturn

from services.launch import Launch, LaunchError

HERE = Path(__file__).parent
JVM = ("-Xmx512m", "-XX:+ExitOnOutOfMemoryError", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""A JVM that is out of memory answers nothing and looks alive: better that it ends and is started anew.

The quick compiler and the collector of small heaps, since the JVM only passes bytes on and shares few cores
with its workers: after its first 1,500 requests a further one cost 555 us of CPU in place of 1,565.
"""
ENVELOPE_BYTES = 64 * 1024
"""Room for names and headers around the tensors of a request that is just as large as allowed."""

START_SECONDS, WORKER_SECONDS = 60.0, 15.0
"""How long the server may take to be ready, and longer for each archive, whose worker imports torch."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One .mar file, and what its manifest says that it holds."""

    file: str
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Ports:
    """Where one TorchServe listens; `worker` numbers its workers' sockets, which are files."""

    grpc: int = 7070
    management_grpc: int = 7071
    rest: int = 7080
    management: int = 7081
    metrics: int = 7082
    worker: int = 9000


def launch(
    *,
    store: Path,
    models: Sequence[str],
    run_dir: Path,
    venv: Path,
    ports: Ports | None = None,
    host: str = "127.0.0.1",
    management_host: str = "127.0.0.1",
    max_request_bytes: int = 64 * 1024 * 1024,
) -> Launch:
    """Render the configuration into `run_dir` and say how to start TorchServe.

    Args:
        store: the folder with the .mar files.
        models: names of the models to load, every version of each; at least one.
        run_dir: configuration, temporary files and log; servers on one machine need one each. Its path stays
            under 90 characters, since the workers' sockets lie in it.
        venv: the environment that holds torchserve and torch.
        ports: where to listen.
        host: the interface for clients.
        management_host: the interface for the management API.
        max_request_bytes: of one request's tensors.

    Raises:
        LaunchError: Java is not installed.
        FileNotFoundError: TorchServe or a model's archive is missing; the text names it.
    """
    java = shutil.which("java")
    if java is None:
        raise LaunchError("java is not installed (Debian: apt-get install openjdk-17-jre-headless)")
    ports = ports or Ports()
    site = _site_packages(venv)
    archives = [archive for archive in archives_in(store) if archive.model in models]
    if missing := sorted({*models} - {archive.model for archive in archives}):
        raise FileNotFoundError(f"{store} holds no archive of {', '.join(missing)}; run `make models`")
    temporary = run_dir.absolute() / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    config = run_dir.absolute() / "config.properties"
    values = {f"{name}_port": number for name, number in asdict(ports).items()}
    config.write_text(
        Template((HERE / "config.properties").read_text()).substitute(
            values,
            host=host,
            management_host=management_host,
            max_message_bytes=max_request_bytes + ENVELOPE_BYTES,
        )
    )
    argv = [
        java,
        *JVM,
        f"-Dmodel_server_home={site}",
        f"-Djava.io.tmpdir={temporary}",
        f"-Dlog4j.configurationFile=file://{HERE / 'log4j2.xml'}",
        "-cp",
        f"{site}/ts/frontend/*",
        "org.pytorch.serve.ModelServer",
        *("--python", str(venv.absolute() / "bin" / "python")),
        *("-f", str(config)),
        *("-s", str(store.absolute())),
        "-ncs",
        "-m",
        *(archive.file for archive in archives),
    ]
    return Launch(
        name="torchserve",
        argv=argv,
        is_ready=lambda: all(
            ready_workers(management_host, ports.management, archive) for archive in archives
        ),
        log=run_dir / "torchserve.log",
        env={
            "PYTHONDONTWRITEBYTECODE": "1",
            "LOG_LOCATION": str(temporary),
            "METRICS_LOCATION": str(temporary),
        },
        cwd=run_dir,
        timeout_seconds=START_SECONDS + WORKER_SECONDS * len(archives),
        addresses={
            "grpc": f"{host}:{ports.grpc}",
            "management_grpc": f"{management_host}:{ports.management_grpc}",
            "rest": f"{host}:{ports.rest}",
            "management": f"{management_host}:{ports.management}",
            "metrics": f"{host}:{ports.metrics}",
        },
    )


def archives_in(store: Path) -> list[Archive]:
    """Every archive of a store, in order of name."""
    found = []
    for path in sorted(store.glob("*.mar")):
        with zipfile.ZipFile(path) as opened:
            manifest = json.loads(opened.read("MAR-INF/MANIFEST.json"))["model"]
        found.append(Archive(path.name, manifest["modelName"], manifest["modelVersion"]))
    return found


def ready_workers(host: str, port: int, archive: Archive) -> int:
    """How many workers of the archive's model version are READY; 0 while the server is not there.

    `/ping` says Healthy while the only worker is dead, so it is of no use here.
    """
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", f"/models/{archive.model}/{archive.version}")
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
    if response.status != http.client.OK:
        return 0
    return sum(worker["status"] == "READY" for entry in json.loads(body) for worker in entry["workers"])


def _site_packages(venv: Path) -> Path:
    found = sorted(venv.absolute().glob("lib/python3*/site-packages/ts/frontend/model-server.jar"))
    if not found:
        raise FileNotFoundError(f"{venv} holds no torchserve; run `make models`")
    return found[0].parents[2]


def main() -> NoReturn:
    """Run TorchServe in the foreground: this process becomes the server."""
    parser = argparse.ArgumentParser(prog="python -m services.torchserve.run", description=main.__doc__)
    parser.add_argument(
        "--store", type=Path, default=Path("build/models/torchserve"), help="folder of .mar files"
    )
    parser.add_argument("--models", nargs="*", help="names to load (default: all in the store)")
    parser.add_argument(
        "--run-dir", type=Path, default=Path("run/torchserve"), help="configuration and sockets"
    )
    parser.add_argument(
        "--venv", type=Path, default=Path(sys.prefix), help="environment that holds torchserve"
    )
    parser.add_argument("--host", default="127.0.0.1", help="interface for clients")
    parser.add_argument("--management-host", default="127.0.0.1", help="interface for the management API")
    for name, number in asdict(Ports()).items():
        parser.add_argument(f"--{name.replace('_', '-')}-port", dest=name, type=int, default=number)
    parser.add_argument("--max-request-bytes", type=int, default=64 * 1024 * 1024)
    parser.add_argument("--check", action="store_true", help="start nothing: exit 0 if every model is ready")
    options = parser.parse_args()
    models = options.models or sorted({archive.model for archive in archives_in(options.store)})
    if not models:
        parser.error(f"{options.store} holds no archive; run `make models`")
    if options.check:
        archives = [archive for archive in archives_in(options.store) if archive.model in models]
        where = (options.management_host, options.management)
        sys.exit(not all(ready_workers(*where, archive) for archive in archives))
    try:
        started = launch(
            store=options.store,
            models=models,
            run_dir=options.run_dir,
            venv=options.venv,
            ports=Ports(**{name: getattr(options, name) for name in asdict(Ports())}),
            host=options.host,
            management_host=options.management_host,
            max_request_bytes=options.max_request_bytes,
        )
    except (LaunchError, FileNotFoundError) as error:
        parser.error(str(error))
    os.chdir(options.run_dir)
    os.execvpe(started.argv[0], list(started.argv), {**os.environ, **started.env})  # noqa: S606 - by design


if __name__ == "__main__":
    main()
