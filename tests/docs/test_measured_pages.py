"""What pages and manifests say of measurements is what the measurements say."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from loadtests import hop, kept_answers, overload, slow_replica, switching
from loadtests.bench import report as bench
from loadtests.growth.__main__ import PAGE as GROWTH
from loadtests.growth.__main__ import RESULTS
from loadtests.growth.curves import CURVES
from loadtests.growth.report import page_with
from loadtests.sizing.report import MEASURED, PAGE, TARGETS, manifest, page


@pytest.mark.parametrize(
    "program",
    [bench, hop, kept_answers, overload, slow_replica, switching],
    ids=lambda program: program.__name__,
)
def test_a_page_has_one_place_for_the_figures_of_a_program(program: ModuleType) -> None:
    text = program.PAGE.read_text()
    assert text.count(program.BEGIN) == 1
    assert program.END in text.partition(program.BEGIN)[2]


def test_the_tables_of_growth_are_those_of_its_results() -> None:
    results = json.loads(RESULTS.read_text())
    assert list(results) == list(CURVES)
    assert page_with(GROWTH.read_text(), results) == GROWTH.read_text()


def test_the_figures_of_sizing_are_those_that_were_measured() -> None:
    assert page(PAGE.read_text(), json.loads(MEASURED.read_text())) == PAGE.read_text()


@pytest.mark.parametrize("path", TARGETS, ids=lambda path: path.name)
def test_an_autoscaler_has_the_targets_of_the_page(path: Path) -> None:
    assert [len(re.findall(pattern, path.read_text())) for pattern in TARGETS[path]] == [1, 1]
    assert manifest(path, json.loads(MEASURED.read_text())) == path.read_text()
