"""Every alert leads to an entry of the runbook that says what an operator needs, and has its tests."""

import re
import shlex

import pytest
import yaml

from gateway.cli import __main__ as cli
from tests.docs.pages import text
from tests.observability.monitoring import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
ALERTS = [
    rule
    for name in ("slo_rules.yml", "alerts.yml")
    for group in yaml.safe_load((FOLDER / name).read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
NAMES = sorted({rule["alert"] for rule in ALERTS})


def entries() -> dict[str, str]:
    """The entries of the runbook's alerts by heading."""
    parts = re.split(r"^### (Inferway\w+)$", text("runbook.md"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_leads_to_its_entry(rule: dict[str, dict[str, str]]) -> None:
    page = "{{ with $externalLabels.runbook }}{{ . }}{{ else }}docs/runbook.md{{ end }}"
    assert rule["annotations"]["runbook_url"] == f"{page}#{str(rule['alert']).lower()}"
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_the_runbook_has_an_entry_for_every_alert_and_for_no_other() -> None:
    assert sorted(entries()) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["Means", "The client sees", "Look at", "Do"])
def test_every_entry_says_all_that_is_needed(name: str, part: str) -> None:
    assert re.search(rf"^- \*\*{part}\*\*: \S", entries()[name], re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_is_seen_to_fire_and_to_be_quiet_by_promtool(name: str) -> None:
    tests = [
        case
        for path in FOLDER.glob("*_test.yml")
        for block in yaml.safe_load(path.read_text())["tests"]
        for case in block.get("alert_rule_test", [])
        if case["alertname"] == name
    ]
    fires = [case for case in tests if case["exp_alerts"]]
    assert fires
    assert [case for case in tests if not case["exp_alerts"]]


def test_every_command_of_inferway_is_one() -> None:
    commands = re.findall(r"`inferway ([^`]+)`|gateway\.cli ([^`]+)`", text("runbook.md"))
    assert commands
    for words in map("".join, commands):
        arguments = shlex.split(words)
        assert cli._parser().parse_args(arguments).verb, words


def test_every_event_of_the_log_is_one() -> None:
    code = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    events = set(re.findall(r"event `(\w+)`", text("runbook.md")))
    assert "process_lost" in events
    assert [event for event in events if f'"{event}"' not in code] == []
