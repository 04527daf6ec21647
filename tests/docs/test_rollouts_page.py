"""The examples of the page on rollouts fit the models and the settings that the other pages show."""

from pathlib import Path

import pytest

from gateway.loading import load_contracts, load_settings
from gateway.pools import pool_endpoints
from gateway.rollouts.plans import rollout_plans, shadow_plans
from tests.docs.pages import ROOT, fenced, text

EXAMPLES = list(fenced(text("rollouts.md"), "yaml"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_taken(example: str, tmp_path: Path) -> None:
    path = tmp_path / "inferway.yaml"
    path.write_text(fenced(text("settings.md"), "yaml")[0] + example)
    settings = load_settings(path, {})
    contracts = load_contracts(settings, ROOT)
    pools = pool_endpoints(settings, contracts)
    plans = [*rollout_plans(settings, contracts, pools), *shadow_plans(settings, contracts, pools)]
    assert len(plans) == len(settings.rollouts) + len(settings.shadows) > 0
