"""The stand-in's start, and the container's, which must be the same server configured the same."""

import json
import re
from pathlib import Path

import pytest

from services.launch import free_port
from services.tfserving import flags, run
from services.tfserving.run import is_available, launch

FOLDER = Path(__file__).parents[3] / "services" / "tfserving"
LOCAL_ONLY = {"port", "host", "model_config_file", "models_root"}


def dockerfile_flags() -> list[str]:
    command = re.search(
        r"^CMD (\[.*\])", (FOLDER / "Dockerfile").read_text().replace("\\\n", ""), re.MULTILINE
    )
    assert command is not None
    arguments: list[str] = json.loads(command[1])
    return arguments


def test_the_container_runs_with_the_flags_of_the_local_start(tmp_path: Path) -> None:
    models_config = tmp_path / "models.config"
    models_config.write_text('model_config_list { config { name: "m" base_path: "/models/m" } }')
    server = launch(
        models_config=models_config, models_root=tmp_path, run_dir=tmp_path, port=1, venv=tmp_path
    )
    local = vars(flags.parser().parse_args(list(server.argv[3:])))
    container = vars(flags.parser().parse_args(dockerfile_flags()))
    assert {k: v for k, v in local.items() if k not in LOCAL_ONLY} == {
        k: v for k, v in container.items() if k not in LOCAL_ONLY
    }


def test_the_container_has_only_flags_of_the_real_server() -> None:
    assert all("_" in flag or flag.startswith("--port") for flag in dockerfile_flags())
    assert not any("models-root" in flag or "--host" in flag for flag in dockerfile_flags())


@pytest.mark.parametrize(("text", "value"), [("", True), ("=true", True), ("=false", False), ("=0", False)])
def test_switches_take_the_real_servers_spellings(text: str, value: bool) -> None:
    flag = f"--enable_serialization_as_tensor_content{text}"
    assert flags.parser().parse_args([flag]).enable_serialization_as_tensor_content is value


def test_nobody_listening_is_not_available() -> None:
    assert not is_available(f"127.0.0.1:{free_port()}", ["m"])


def test_in_the_foreground_the_process_becomes_the_server_so_that_a_signal_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models.config").write_text("model_config_list {}")
    became: list[list[str]] = []
    monkeypatch.setattr("os.execve", lambda _file, argv, _env: became.append(argv))
    monkeypatch.chdir(tmp_path)
    run.main(["--models-config", str(tmp_path / "models.config"), "--venv", str(tmp_path), "--port", "7"])
    assert became[0][1:4] == ["-m", "services.tfserving.server", "--port=7"]


def test_without_models_it_says_how_to_build_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--models-config", str(tmp_path / "models.config")]) == 1
    assert capsys.readouterr().err.endswith("models.config'; run `make models`\n")
