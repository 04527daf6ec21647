"""How TorchServe is started."""

from pathlib import Path

import pytest

from services.launch import LaunchError
from services.torchserve import run


def test_without_java_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match=r"java is not installed \(Debian: apt-get install openjdk"):
        run.launch(store=tmp_path, models=["m"], run_dir=tmp_path / "run", venv=tmp_path / "venv")
