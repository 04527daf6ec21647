"""A canary over every protocol: a caller stays on its side, and its answers come from no other's cache."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.e2e.sharing_clients import CLIENTS
from tests.serving import EMBEDDED, MODEL, StartedGateway, heldout, running_gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedGateway]:
    """A gateway whose canary, the int8 variant, takes half of the callers."""
    rollout = {"model": MODEL, "canary_variant": "int8", "weight": 0.5, "sticky": "header"}
    settings = {"endpoints": {"embedded": EMBEDDED}, "rollouts": [rollout]}
    with running_gateway(tmp_path_factory.mktemp("canary"), settings) as running:
        yield running


def test_a_caller_gets_one_side_over_every_protocol_and_the_two_sides_share_no_answer(
    gateway: StartedGateway,
) -> None:
    image = heldout()[0][420:421]
    sides: dict[str, list[float]] = {}
    for caller in range(12):
        asking = {"x-inferway-sticky": f"caller-{caller}"}
        said = {name: client(gateway, image, asking) for name, client in CLIENTS.items()}
        (variant,) = {reply.facts["x-inferway-variant"] for reply in said.values()}
        first = next(iter(said.values()))
        values = sides.setdefault(variant, first.values)
        for name, reply in said.items():
            np.testing.assert_allclose(reply.values, values, rtol=1e-6, err_msg=f"{caller} {name}")
    assert sides.keys() == {"fp32", "int8"}
    assert not np.allclose(sides["fp32"], sides["int8"], rtol=1e-6, atol=0)


def test_half_of_the_callers_are_on_each_side_and_who_names_a_variant_is_on_none(
    gateway: StartedGateway,
) -> None:
    image, client = heldout()[0][421:422], CLIENTS["oip_binary"]
    seen = [
        client(gateway, image, {"x-inferway-sticky": str(caller)}).facts["x-inferway-variant"]
        for caller in range(60)
    ]
    assert 15 <= seen.count("int8") <= 45
    asking = {"x-inferway-variant": "fp32"}
    for caller in range(10):
        said = client(gateway, image, {"x-inferway-sticky": str(caller), **asking})
        assert said.facts["x-inferway-variant"] == "fp32"
    assert gateway.metric("gateway_canary_weight_ratio", model=MODEL) == 0.5
