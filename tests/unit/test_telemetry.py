"""Nothing that we run reports to the maker of ONNX Runtime, whose builds do so by default."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ROOT

STAND_IN = "import sys, types; sys.modules['triton_python_backend_utils'] = types.ModuleType('triton')\n"


@pytest.mark.parametrize(
    "first", ["import gateway", "import models", STAND_IN + "import services.tensorrt.onnx_model"]
)
def test_onnx_runtime_keeps_no_record_for_its_maker(tmp_path: Path, first: str) -> None:
    # It writes an id of the machine and a queue of reports under HOME as soon as it is imported.
    environment = {"HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(
        [sys.executable, "-c", f"{first}\nimport onnxruntime"], cwd=ROOT, env=environment, check=True
    )
    assert list(tmp_path.rglob("*")) == []
