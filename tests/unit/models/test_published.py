"""The table of what is published is that of the contracts."""

from pathlib import Path

import pytest

from models import artifacts, published

CONTRACT = """
name: {name}
inputs: [{{name: x, datatype: FP32, shape: [2]}}]
outputs: [{{name: y, datatype: FP32, shape: [2]}}]
default_version: "1"
versions:
  "1":
    variants:
      fp32: {{checkpoint: a, sha256: {sha256}}}
      int8: {{checkpoint: a, sha256: {sha256}, unpublished: {{torchserve: no kernels, triton: "{reason}"}}}}
"""


def test_the_readme_s_table_is_up_to_date() -> None:
    text = published.README.read_text(encoding="utf-8")
    assert published.replaced(text, published.table(artifacts.MODELS)) == text, (
        "run `python -m models.published`"
    )


def test_a_cell_names_the_form_or_the_reason_why_there_is_none(tmp_path: Path) -> None:
    for name, reason in (("one", "too slow"), ("two", "no kernels")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.yaml").write_text(
            CONTRACT.format(name=name, sha256="a" * 64, reason=reason)
        )
    assert published.table(tmp_path).splitlines()[2:] == [
        "| one | fp32 | ONNX | ONNX | TorchScript | SavedModel |",
        "| one | int8 | ONNX | no (1) | no (2) | LiteRT |",
        "| two | fp32 | ONNX | ONNX | TorchScript | SavedModel |",
        "| two | int8 | ONNX | no (2) | no (2) | LiteRT |",
        "",
        "1. too slow",
        "2. no kernels",
    ]


def test_a_page_without_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="marks"):
        published.replaced("# Models\n", "table")
