"""Starts the real Triton without Docker: `python -m services.tensorrt.run --help`.

The wheel `nvidia-pytriton` carries the server itself. To be run alone it lacks one thing: a backend folder in
which the python backend finds its stub for this Python; that is put together in the run folder.
"""

import argparse
import http.client
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.launch import Launch, LaunchError

ROOT = Path(__file__).parents[2]
HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002
START_SECONDS, MODEL_SECONDS = 60.0, 10.0
"""How long the server may take to be ready, and longer for each model, which warms up with a full batch."""
_PROBE_SECONDS = 1.0


def launch(
    *,
    repository: Path,
    models: Sequence[str],
    run_dir: Path,
    http_port: int = HTTP_PORT,
    grpc_port: int = GRPC_PORT,
    metrics_port: int = METRICS_PORT,
    host: str = "127.0.0.1",
    venv: Path = ROOT / ".venvs" / "triton",
) -> Launch:
    """What to run for a Triton that serves `models`.

    Args:
        repository: a repository rendered for platform `python`.
        models: Triton's names of the models to load; ready means that each of them is.
        run_dir: a folder of this server's own; made, and written to.
        http_port: OIP REST.
        grpc_port: OIP gRPC.
        metrics_port: Prometheus.
        host: the address that all three listen on.
        venv: the environment of requirements/triton.txt.

    Raises:
        LaunchError: the environment is not there or lacks something; the text says what.
    """
    site, version = _site_packages(venv)
    server = site / "pytriton" / "tritonserver"
    argv = [
        str(server / "bin" / "tritonserver"),
        f"--model-repository={repository.resolve()}",
        f"--backend-directory={_backends(server, version, run_dir)}",
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in models),
        "--disable-auto-complete-config",
        "--allow-gpu-metrics=false",
        "--exit-timeout-secs=5",
    ]
    ports = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
    for kind, port in ports.items():
        argv += [f"--{kind}-address={host}", f"--{kind}-port={port}"]
    return Launch(
        name="triton",
        argv=argv,
        is_ready=lambda: all(_model_is_ready(host, http_port, model) for model in models),
        log=run_dir / "triton.log",
        env=_environment(venv, site, version),
        cwd=run_dir,
        timeout_seconds=START_SECONDS + MODEL_SECONDS * len(models),
        addresses={kind: f"{host}:{port}" for kind, port in ports.items()},
    )


def models_of(repository: Path) -> list[str]:
    """The names of all models of a repository.

    Raises:
        LaunchError: it has none.
    """
    names = sorted(config.parent.name for config in repository.glob("*/config.pbtxt"))
    if not names:
        raise LaunchError(f"{repository} has no model: render it with services.tensorrt.repository")
    return names


def _site_packages(venv: Path) -> tuple[Path, str]:
    """The environment's package folder and its Python, as `3.11`."""
    for site in venv.glob("lib/python3.*/site-packages"):
        if (site / "pytriton" / "tritonserver" / "bin" / "tritonserver").is_file():
            return site.resolve(), site.parent.name.removeprefix("python")
    raise LaunchError(f"{venv} has no Triton: install requirements/triton.txt into it")


def _backends(server: Path, version: str, run_dir: Path) -> Path:
    """A backend folder whose python backend has its stub; a copy, since libraries look beside themselves."""
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise LaunchError(f"nvidia-pytriton has no stub for Python {version}")
    backends = run_dir.resolve() / "backends"
    shutil.copytree(server / "backends", backends, dirs_exist_ok=True, ignore=lambda *_: ["__pycache__"])
    shutil.copy2(stub, backends / "python")
    return backends


def _environment(venv: Path, site: Path, version: str) -> Mapping[str, str]:
    """The stub embeds Python: it links libpython, and takes the first `python3` of PATH for its home."""
    libraries = f"{_libpython_folder(venv, version)}:{site / 'nvidia_pytriton.libs'}"
    return {
        "LD_LIBRARY_PATH": libraries,
        "PATH": f"{venv.resolve() / 'bin'}:{os.environ.get('PATH', os.defpath)}",
    }


def _libpython_folder(venv: Path, version: str) -> Path:
    """Where the shared libpython of the environment's own interpreter lies."""
    code = "import sysconfig as s; print(s.get_config_var('LIBDIR'), s.get_config_var('MULTIARCH') or '.')"
    answer = subprocess.run([venv / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    folder, multiarch = answer.stdout.split()
    library = f"libpython{version}.so.1.0"
    for candidate in (Path(folder), Path(folder) / multiarch):
        if (candidate / library).exists():
            return candidate
    raise LaunchError(f"{library} is not in {folder}: install the package libpython{version}")


def _model_is_ready(host: str, port: int, model: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", f"/v2/models/{model}/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Become the server, in the foreground; SIGTERM or Ctrl-C ends it."""
    parser = argparse.ArgumentParser(prog="python -m services.tensorrt.run", description=main.__doc__)
    parser.add_argument("--repository", type=Path, default=ROOT / "build" / "models" / "triton")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="default: all that the repository has")
    parser.add_argument("--run-dir", type=Path, default=ROOT / "run" / "triton")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venvs" / "triton")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--http-port", type=int, default=HTTP_PORT)
    parser.add_argument("--grpc-port", type=int, default=GRPC_PORT)
    parser.add_argument("--metrics-port", type=int, default=METRICS_PORT)
    options = vars(parser.parse_args(argv))
    try:
        started = launch(**{**options, "models": options["models"] or models_of(options["repository"])})
    except LaunchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    os.chdir(started.cwd or ".")
    return os.execve(started.argv[0], list(started.argv), {**os.environ, **started.env})  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())
