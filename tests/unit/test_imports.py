"""The rules of who may import whom, as pyproject.toml states them."""

import ast
import sys
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[2]
PYPROJECT = ROOT / "pyproject.toml"
TRANSFORMS = sorted((ROOT / "models").glob("*/transform.py"))
TRANSFORMS_MAY_IMPORT = {"numpy", "PIL", "tokenizers", *sys.stdlib_module_names}
"""The gateway imports every transform, and must not come to need a model's framework."""


def test_every_import_rule_of_pyproject_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(config_filename=str(PYPROJECT), no_cache=True)
    report = capsys.readouterr().out
    assert status == EXIT_STATUS_SUCCESS, report
    assert "0 broken" in report


def imported(path: Path) -> set[str]:
    """The packages that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return {name.partition(".")[0] or name for name in names}


@pytest.mark.parametrize("path", TRANSFORMS, ids=lambda path: path.parent.name)
def test_a_transform_imports_only_what_the_gateway_has(path: Path) -> None:
    assert imported(path) - TRANSFORMS_MAY_IMPORT == set()


def test_an_import_inside_of_a_function_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "transform.py"
    path.write_text("import os.path\ndef f():\n    from torch.nn import Linear\n    from . import network\n")
    assert imported(path) == {"os", "torch", "."}
