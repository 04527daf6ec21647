from pathlib import Path

import pytest

from models.evaluation import machine, wording
from models.evaluation.provenance import provenance

MINUS = "\N{MINUS SIGN}"


def test_shares_are_told_in_percent_and_their_losses_in_points() -> None:
    assert wording.shown("accuracy", 0.98765) == "98.77 %"
    assert wording.shown("r2", 0.98765) == "0.9877"
    assert wording.lost("accuracy", 0.0062) == f"{MINUS}0.62"
    assert wording.lost("accuracy", -0.001) == "+0.10"
    assert wording.lost("r2", 0.0062) == f"{MINUS}0.0062"
    assert wording.lost("accuracy", 0.0) == "0"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.2344, "1234 ms"), (0.0421, "42.1 ms"), (0.00512, "5.12 ms"), (0.000058, "0.058 ms")],
)
def test_a_latency_has_three_digits_or_so(seconds: float, text: str) -> None:
    assert wording.seconds(seconds) == text


def test_provenance_is_the_readme_s_section_and_nothing_else(tmp_path: Path) -> None:
    readme = tmp_path / "m" / "README.md"
    readme.parent.mkdir()
    readme.write_text(
        "# m\n- other\n\n## Provenance\nFrom `a<b`:\n\n"
        "- one\n  line, [train.py](train.py)\n- **two**\n\n## Rest\nno\n"
    )
    assert provenance(readme) == (
        "<p>From <code>a&lt;b</code>:</p>\n"
        '<ul><li>one line, <a href="../../models/m/train.py">train.py</a></li>'
        "<li><strong>two</strong></li></ul>"
    )


def test_no_section_is_no_text(tmp_path: Path) -> None:
    assert not provenance(tmp_path / "README.md")


@pytest.mark.parametrize(
    ("flags", "found", "has"),
    [("sse avx2", ["avx2"], False), ("avx2 avx512_vnni", ["avx2", "avx512_vnni"], True)],
)
def test_the_machine_says_whether_int8_has_instructions_of_its_own(
    tmp_path: Path, flags: str, found: list[str], has: bool
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"model name\t: A CPU\nflags\t\t: {flags}\n")
    facts = machine.describe(path)
    assert facts["cpu"] == "A CPU"
    assert facts["instructions"] == found
    assert facts["has_byte_products"] is has
