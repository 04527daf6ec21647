"""Progress: a line for each thing, whole lines from several threads, and on a terminal what is under way."""

import io

import pytest

from models.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_each_line_counts_and_says_what_became_of_it() -> None:
    stream = io.StringIO()
    progress = Progress(2, stream)
    progress.begins("onnx/a")
    progress.begins("onnx/b")
    progress.ends("onnx/b", "built")
    progress.ends("onnx/a", "refused: accuracy 0.1")
    assert stream.getvalue() == "[1/2] onnx/b: built\n[2/2] onnx/a: refused: accuracy 0.1\n"


def test_on_a_terminal_the_last_line_says_what_is_under_way() -> None:
    stream = Terminal()
    progress = Progress(2, stream)
    progress.begins("onnx/a")
    progress.begins("onnx/b")
    progress.ends("onnx/a", "built")
    assert stream.getvalue().endswith("    building onnx/b ...")
    progress.ends("onnx/b", "built")
    assert stream.getvalue().endswith("[2/2] onnx/b: built\n")


def test_what_is_under_way_fits_into_a_line_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    progress = Progress(2, stream)
    progress.begins("onnx-tensorrt/bert_chinese-pruned_int8/1")
    progress.begins("onnx/efficientnet_lite0/1")
    assert max(map(len, stream.getvalue().split("\r\x1b[K"))) == 39
