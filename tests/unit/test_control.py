"""What the admin port may ask of one process, and that its changes end with the configuration."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.overrides import Change
from gateway.app import Gateway, build
from gateway.configuration import ConfigurationError
from gateway.inference import InferResponse, Tensor
from gateway.loading import load_settings
from gateway.traffic_settings import RolloutSettings, ShadowSettings, ShadowTargetSettings

ROOT = Path(__file__).parents[2]
MODEL = "cnn_mnist"


@pytest.fixture
def gateway() -> Gateway:
    """Every engine, none of them started, and none asked."""
    settings = load_settings(ROOT / "inferway.full.yaml", {})
    return build(settings.model_copy(update={"cache": load_settings(ROOT / "inferway.yaml", {}).cache}), ROOT)


async def ask(gateway: Gateway, what: str, **more: Any) -> dict[str, Any]:
    return await gateway.control.answer({"ask": what, **more})


async def change(gateway: Gateway, **change: Any) -> dict[str, Any]:
    return await ask(gateway, "change", change=change)


async def states(gateway: Gateway) -> dict[str, set[str]]:
    """By endpoint, what its state is in the pools."""
    found: dict[str, set[str]] = {}
    for row in (await ask(gateway, "pools"))["endpoints"]:
        found.setdefault(row["endpoint"], set()).add(row["state"])
    return found


async def test_an_endpoint_is_drained_in_every_pool_and_taken_back(gateway: Gateway) -> None:
    for pool in gateway.serving.pools.values():
        for endpoint in pool.endpoints:
            endpoint.is_ready = True
    name = next(iter(await states(gateway)))
    said = await change(gateway, action="drain", name=name)
    assert said["overrides"] == [{"action": "drain", "name": name}]
    drained = await states(gateway)
    assert drained.pop(name) == {"draining"}
    assert set().union(*drained.values()) == {"ready"}
    assert (await change(gateway, action="undrain", name=name))["overrides"] == []
    assert set().union(*(await states(gateway)).values()) == {"ready"}


async def test_a_drain_holds_for_an_address_that_goes_and_comes_back_until_it_is_taken_back(
    tmp_path: Path,
) -> None:
    settings = "endpoints: {found: {backend: torchserve, file: addresses.yaml, management_port: 1}}\n"
    (tmp_path / "inferway.yaml").write_text(settings + "passthrough: [{model: m, endpoints: [found]}]")
    gateway = build(load_settings(tmp_path / "inferway.yaml", {}), tmp_path)
    (membership,) = gateway.serving._memberships

    async def found(*addresses: str) -> dict[str, set[str]]:
        (tmp_path / "new.yaml").write_text(str(list(addresses)))
        (tmp_path / "new.yaml").replace(tmp_path / "addresses.yaml")
        await membership.look()
        return await states(gateway)

    here, other = "10.0.0.7:7070", "10.0.0.8:7070"
    drain, name = {"action": "drain"}, f"found/{here}"
    assert (await change(gateway, **drain, name=name))["refused"][0] == 404
    await found(here, other)
    await change(gateway, **drain, name=name)
    assert name not in await found(other)
    assert (await change(gateway, **drain, name=name))["overrides"] == [{**drain, "name": name}]
    assert (await found(here, other))[name] == {"draining"}
    await found(other)
    assert (await change(gateway, action="undrain", name=name))["overrides"] == []
    assert (await found(here, other))[name] == {"not ready"}
    await gateway.serving.stop()


async def test_a_process_takes_over_the_drain_of_an_address_that_it_has_not_found_yet(
    gateway: Gateway,
) -> None:
    gateway.control.change(Change("drain", "found/10.0.0.7:7070"))
    assert gateway.serving.drained == {"found/10.0.0.7:7070"}
    assert len((await ask(gateway, "overrides"))["overrides"]) == 1


async def test_an_endpoint_that_is_drained_is_asked_by_no_shadow_either() -> None:
    settings = load_settings(ROOT / "inferway.yaml", {})
    name = next(iter(settings.endpoints))
    shadow = ShadowSettings(model=MODEL, to=ShadowTargetSettings(endpoints=(name,)))
    gateway = build(settings.model_copy(update={"shadows": (shadow,)}), ROOT)
    ((_, pool),) = gateway.serving._shadows
    for action in ("drain", "undrain"):
        await change(gateway, action=action, name=name)
        assert [endpoint.is_draining for endpoint in pool.endpoints] == [action == "drain"]


async def test_the_endpoints_that_shadows_ask_are_shown_as_such() -> None:
    settings = load_settings(ROOT / "inferway.yaml", {})
    (name, endpoint), *_ = settings.endpoints.items()
    endpoints = {**settings.endpoints, "new": endpoint}
    shadow = ShadowSettings(model=MODEL, to=ShadowTargetSettings(variant="int8", endpoints=("new",)))
    gateway = build(settings.model_copy(update={"shadows": (shadow,), "endpoints": endpoints}), ROOT)
    rows = (await ask(gateway, "pools"))["endpoints"]
    (shown,) = [row for row in rows if row["shadow"]]
    assert (shown["model"], shown["variant"], shown["endpoint"]) == (MODEL, "int8", "new")
    assert {row["endpoint"] for row in rows if not row["shadow"]} == {name}


async def test_every_answer_tells_of_the_canaries_that_were_taken_back(gateway: Gateway) -> None:
    assert (await ask(gateway, "pools"))["rolled_back"] == []
    assert (await change(gateway, action="drain", name=next(iter(await states(gateway)))))[
        "rolled_back"
    ] == []


async def test_an_endpoint_that_was_never_asked_is_not_ready(gateway: Gateway) -> None:
    assert set().union(*(await states(gateway)).values()) == {"not ready"}


@pytest.mark.parametrize(
    ("wrong", "status", "said"),
    [
        ({"action": "drain", "name": "tritn"}, 404, "there is no endpoint 'tritn'; "),
        ({"action": "weight", "name": MODEL, "value": 0.5}, 404, "no canary"),
        ({"action": "label", "name": "m", "label": "prod", "value": "1"}, 404, "model 'm' is not found"),
        ({"action": "label", "name": MODEL, "label": "prod", "value": "9"}, 404, "no version '9'"),
    ],
)
async def test_what_there_is_not_is_refused_and_no_override(
    gateway: Gateway, wrong: dict[str, Any], status: int, said: str
) -> None:
    refused = (await change(gateway, **wrong))["refused"]
    assert refused[0] == status
    assert said in refused[1]
    assert (await ask(gateway, "overrides"))["overrides"] == []


async def test_a_label_moves(gateway: Gateway) -> None:
    await change(gateway, action="label", name=MODEL, label="prod", value="1")
    assert (await ask(gateway, "rollouts"))["rollouts"]["labels"][MODEL]["prod"] == "1"


async def test_the_canary_of_a_label_is_moved_and_is_over_when_the_label_is(gateway: Gateway) -> None:
    settings = gateway.front.settings
    canary = RolloutSettings(model=MODEL, label="stable", canary_variant="int8", weight=0.25)
    gateway = build(settings.model_copy(update={"rollouts": (canary,)}), ROOT)
    weight = {"action": "weight", "name": MODEL, "label": "stable", "value": 0.5}
    assert (await change(gateway, **weight))["overrides"] == [weight]
    label = {"action": "label", "name": MODEL, "label": "stable", "value": "1"}
    assert (await change(gateway, **label))["overrides"] == [weight, label]
    ((shown,),) = [(await ask(gateway, "rollouts"))["rollouts"]["canaries"]]
    assert (shown["model"], shown["label"], shown["weight"]) == (MODEL, "stable", 0.0)


async def test_a_canary_that_was_taken_back_is_told_with_its_label(gateway: Gateway) -> None:
    settings = gateway.front.settings
    canary = RolloutSettings(model=MODEL, label="stable", canary_variant="int8", weight=0.25)
    gateway = build(settings.model_copy(update={"rollouts": (canary,)}), ROOT)
    gateway.serving.rollouts.canaries[MODEL, "stable"].rolled_back = "3 of 3 requests failed"
    said = await ask(gateway, "overrides")
    assert said["rolled_back"] == [(MODEL, "stable")]
    assert said["overrides"] == [{"action": "weight", "name": MODEL, "label": "stable", "value": 0.0}]


async def test_overrides_end_when_another_configuration_is_served(gateway: Gateway) -> None:
    name = next(iter(await states(gateway)))
    await change(gateway, action="drain", name=name)
    served = gateway.front
    gateway.front = replace(served, serving=replace(served.serving))
    assert (await ask(gateway, "overrides"))["overrides"] == []
    said = await change(gateway, action="label", name=MODEL, label="prod", value="1")
    assert [told["action"] for told in said["overrides"]] == ["label"]


async def test_a_configuration_that_is_refused_says_why(gateway: Gateway) -> None:
    async def refuse() -> None:
        raise ConfigurationError("inferway.yaml:3: pools: expected a list")

    gateway.control.reload = refuse
    assert (await ask(gateway, "reload"))["refused"] == [422, "inferway.yaml:3: pools: expected a list"]


async def test_a_reload_before_the_gateway_has_started_is_put_off(gateway: Gateway) -> None:
    assert (await ask(gateway, "reload"))["refused"][0] == 503


async def test_a_model_is_voided_in_memory_and_without_redis_only_there(gateway: Gateway) -> None:
    answer = InferResponse(MODEL, "1", (Tensor("t", "UINT8", (1,), b"1"),))
    memory = gateway.control.lasting.memory
    await memory.put(b"k", answer, 60)
    assert (await ask(gateway, "void_memory", model=MODEL))["dropped"] == 1
    assert (await ask(gateway, "void_redis", model=MODEL))["dropped"] is None
    assert await memory.get(MODEL, b"k") is None
    assert (await ask(gateway, "void_memory", model="cnn_minst"))["refused"][0] == 404
