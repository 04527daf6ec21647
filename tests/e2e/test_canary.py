"""A canary over every protocol: a caller stays on its side, and its answers come from no other's cache."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from gateway.cli.__main__ import main as inferway
from gateway.cli.admin_client import AdminClient
from tests.e2e.sharing_clients import CLIENTS, tfs_grpc, tfs_json
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


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedGateway]:
    """Two gateway processes; the canary of the label `stable`, the int8 variant, takes half of them."""
    rollout = {"model": MODEL, "label": "stable", "canary_variant": "int8", "weight": 0.5, "sticky": "header"}
    settings = {
        "endpoints": {"embedded": EMBEDDED},
        "rollouts": [rollout],
        "server": {"processes": 2},
    }
    with running_gateway(tmp_path_factory.mktemp("labelled"), settings) as running:
        give_up = time.monotonic() + 30.0
        admin = AdminClient(f"http://{running.admin}")
        while {process["state"] for process in admin.get("status")["processes"]} != {"serving"}:
            assert time.monotonic() < give_up
            time.sleep(0.05)
        yield running


def test_a_labels_canary_answers_who_asks_for_the_label_and_the_sides_share_no_answer(
    labelled: StartedGateway,
) -> None:
    image = heldout()[0][423:424]
    sides: dict[str, list[float]] = {}
    for caller in range(12):
        asking = {"x-inferway-sticky": f"caller-{caller}"}
        for _ in range(2):  # the second time from the cache, where the first reached the same process
            said = [ask(labelled, image, asking, "stable") for ask in (tfs_json, tfs_grpc)]
            (variant,) = {reply.facts["x-inferway-variant"] for reply in said}
            for reply in said:
                np.testing.assert_allclose(
                    reply.values, sides.setdefault(variant, reply.values), rtol=1e-6, err_msg=variant
                )
        assert CLIENTS["tfs_json"](labelled, image, asking).facts["x-inferway-variant"] == "fp32"
    assert sides.keys() == {"fp32", "int8"}
    assert not np.allclose(sides["fp32"], sides["int8"], rtol=1e-6, atol=0)


def test_an_operator_moves_a_labels_canary_and_moving_the_label_ends_it(
    labelled: StartedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = ["--admin", f"http://{labelled.admin}"]

    def variants(first: int) -> set[str]:
        """What answers eight callers that are on no side yet, a connection each."""
        images = heldout()[0][first : first + 8]
        asked = [tfs_json(labelled, images[n : n + 1], label="stable") for n in range(8)]
        return {said.facts["x-inferway-variant"] for said in asked}

    assert inferway(["canary", "set", MODEL, "1", "--label", "stable", *admin]) == 0
    assert variants(430) == {"int8"}
    assert inferway(["status", *admin]) == 0
    row = f"{MODEL} stable 1/fp32 1/int8 1".split()
    assert row in [line.split()[:5] for line in capsys.readouterr().out.splitlines()]
    assert labelled.metric("gateway_canary_weight_ratio", model=MODEL, label="stable") == 1
    assert inferway(["canary", "set", MODEL, "1", *admin]) == 1
    assert "those that have: label 'stable'" in capsys.readouterr().err
    assert inferway(["label", "set", MODEL, "stable", "1", *admin]) == 0
    assert variants(440) == {"fp32"}
    assert labelled.metric("gateway_canary_weight_ratio", model=MODEL, label="stable") == 0
