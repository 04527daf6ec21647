"""What is run for a Triton, from an environment made up of empty files."""

import http.server
import sys
import threading
from pathlib import Path

import pytest

from services.launch import Launch, LaunchError
from services.tensorrt import run


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    venv = tmp_path / "venv"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    server = venv / "lib" / f"python{version}" / "site-packages" / "pytriton" / "tritonserver"
    for file in (
        server / "bin" / "tritonserver",
        server / "backends" / "python" / "libtriton_python.so",
        server / "python_backend_stubs" / version / "triton_python_backend_stub",
    ):
        file.parent.mkdir(parents=True)
        file.touch()
    (venv / "bin").mkdir()
    (venv / "bin" / "python").symlink_to(sys.executable)
    return venv


@pytest.fixture(autouse=True)
def _libpython(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own libpython may or may not be there; the tests do not depend on it."""
    monkeypatch.setattr(run, "_libpython_folder", lambda _venv, _version: tmp_path / "libpython")


def launched(venv: Path, tmp_path: Path, http_port: int = 18000) -> Launch:
    return run.launch(
        repository=tmp_path / "repository",
        models=["one", "two"],
        run_dir=tmp_path / "run",
        http_port=http_port,
        grpc_port=18001,
        metrics_port=18002,
        venv=venv,
    )


def test_the_process_is_the_server_itself_with_the_models_loaded_explicitly(
    venv: Path, tmp_path: Path
) -> None:
    started = launched(venv, tmp_path)
    assert started.argv[0].endswith("pytriton/tritonserver/bin/tritonserver")
    assert {
        "--model-control-mode=explicit",
        "--load-model=one",
        "--load-model=two",
        "--grpc-address=127.0.0.1",
        "--grpc-port=18001",
    } <= set(started.argv)
    assert started.addresses["grpc"] == "127.0.0.1:18001"


def test_the_python_backend_finds_its_stub_libraries_and_python(venv: Path, tmp_path: Path) -> None:
    started = launched(venv, tmp_path)
    backend = tmp_path / "run" / "backends" / "python"
    assert sorted(path.name for path in backend.iterdir()) == [
        "libtriton_python.so",
        "triton_python_backend_stub",
    ]
    assert started.env["PATH"].startswith(f"{venv / 'bin'}:")
    assert started.env["LD_LIBRARY_PATH"].startswith(f"{tmp_path / 'libpython'}:")


def test_ready_means_that_every_model_is(venv: Path, tmp_path: Path) -> None:
    ready = {"/v2/models/one/ready"}

    class Triton(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in ready else 400)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.HTTPServer(("127.0.0.1", 0), Triton) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        started = launched(venv, tmp_path, server.server_port)
        assert not started.is_ready()
        ready.add("/v2/models/two/ready")
        assert started.is_ready()
        server.shutdown()
    assert not started.is_ready()


def test_an_environment_without_triton_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"nothing-here has no Triton: install requirements/triton\.txt"):
        launched(tmp_path / "nothing-here", tmp_path)


def test_a_repository_without_models_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--repository", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err == f"{tmp_path} has no model: render it with services.tensorrt.repository\n"
    )
