"""The audit: a vulnerability fails, and an index that knows nothing is not taken for a clean one."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from services import audit
from services.audit import Audit

CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-2030-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (3)"}


def test_a_report_is_read_with_what_it_does_not_say() -> None:
    read = audit.read({"dependencies": [CLEAN, BAD, SKIPPED]})
    assert read == Audit(["b 2: CVE-2030-1; mended in: 2.1"], ["c"], 2)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """What the index was asked; nothing reaches the real one."""
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("# pins\na==1\nb==2\n")
    monkeypatch.setattr(audit, "CONSTRAINTS", constraints)
    monkeypatch.setattr(audit, "STAMP", tmp_path / "build" / "audit.json")
    return []


def answering(monkeypatch: pytest.MonkeyPatch, asked: list[Sequence[str]], *packages: object) -> None:
    def ask(pins: Sequence[str]) -> Audit:
        asked.append(pins)
        return audit.read({"dependencies": packages})

    monkeypatch.setattr(audit, "ask", ask)


def test_a_vulnerability_fails_every_time(
    asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, asked, CLEAN, BAD)
    assert (audit.main(), audit.main()) == (1, 1)
    assert "vulnerable: b 2: CVE-2030-1" in capsys.readouterr().err
    assert asked == [["a==1"], ["a==1", "b==2"]] * 2


def test_a_clean_answer_holds_for_a_day_and_for_these_constraints(
    asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, asked, CLEAN)
    assert (audit.main(), audit.main()) == (0, 0)
    assert len(asked) == 2
    audit.CONSTRAINTS.write_text("a==2\n")
    assert audit.main() == 0
    assert len(asked) == 4
    assert capsys.readouterr().err == ""


def test_an_index_that_knows_nothing_is_asked_once_and_said_so_each_time(
    asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, asked, SKIPPED)
    for _ in range(2):
        assert audit.main() == 0
        assert "!!! NOT AUDITED" in capsys.readouterr().err
    assert asked == [["a==1"]]


def test_no_network_is_said_and_does_not_fail(
    asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(pins: Sequence[str]) -> Audit:
        asked.append(pins)
        return audit.read(json.loads(""))

    monkeypatch.setattr(audit, "ask", ask)
    assert audit.main() == 0
    assert "!!! NOT AUDITED for known vulnerabilities: pip-audit has no answer" in capsys.readouterr().err
