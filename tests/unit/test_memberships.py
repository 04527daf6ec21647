"""What the settings of an entry make of the addresses that are found for it, before and after a reload."""

from pathlib import Path

import pytest

from gateway.app import Gateway, build
from gateway.backends.torchserve import TorchServe
from gateway.balancing.endpoint import Endpoint
from gateway.inference import PoolKey
from gateway.loading import load_settings
from gateway.serving import Serving
from tests.certificates import Authority

SETTINGS = """
endpoints:
  still: {backend: torchserve, address: "h:1", management_address: "h:2"}
  found: {backend: torchserve, file: addresses.yaml, management_port: 7071}
passthrough: [{model: legacy, endpoints: [still, found]}, {model: older, endpoints: [found]}]
"""
TRACING = """
tracing: {otlp_endpoint: "http://127.0.0.1:1"}
"""
LEGACY, OLDER = PoolKey("legacy", "", ""), PoolKey("older", "", "")
HERE, THERE = "found/10.0.0.7:7070", "found/10.0.0.8:7070"


def gateway_of(folder: Path, settings: str = SETTINGS) -> Gateway:
    (folder / "inferway.yaml").write_text(settings)
    return build(load_settings(folder / "inferway.yaml", {}), folder)


async def look(serving: Serving, folder: Path, *names: str) -> dict[str, Endpoint]:
    """What is then in the pool of `older`, by name."""
    (folder / "new.yaml").write_text(str([name.removeprefix("found/") for name in names]))
    (folder / "new.yaml").replace(folder / "addresses.yaml")
    (membership,) = serving._memberships
    await membership.look()
    return {endpoint.name: endpoint for endpoint in serving.pools[OLDER].endpoints}


def prepared(gateway: Gateway, folder: Path, settings: str) -> Serving:
    (folder / "inferway.yaml").write_text(settings)
    return gateway.prepare(load_settings(folder / "inferway.yaml", {})).serving


@pytest.mark.parametrize("more", ["", TRACING])
async def test_an_address_that_is_found_joins_every_pool_of_its_entry_over_one_client(
    tmp_path: Path, more: str
) -> None:
    serving = gateway_of(tmp_path, SETTINGS + more).serving
    await look(serving, tmp_path, HERE)
    legacy, older = (serving.pools[key].endpoints for key in (LEGACY, OLDER))
    assert [endpoint.name for endpoint in legacy] == ["still", "found/10.0.0.7:7070"]
    assert [endpoint.name for endpoint in older] == ["found/10.0.0.7:7070"]
    assert legacy[1].infer is older[0].infer
    assert (older[0].backend, older[0] is legacy[1]) == ("torchserve", False)
    client = getattr(older[0].infer, "_backend", older[0].infer)  # under its spans, where there are any
    assert isinstance(client, TorchServe)
    assert (client._inference._address, client._management._address) == ("10.0.0.7:7070", "10.0.0.7:7071")
    await serving.stop()


async def test_a_reload_keeps_what_is_found_again_warm_and_drained_until_it_serves(tmp_path: Path) -> None:
    gateway = gateway_of(tmp_path)
    before = await look(gateway.serving, tmp_path, HERE, THERE)
    before[HERE].is_ready = True
    gateway.serving.drain(HERE, is_draining=True)
    after = prepared(gateway, tmp_path, f"{SETTINGS}retry: {{max_attempts: 2}}\n")
    found = await look(after, tmp_path, HERE)
    assert found == {HERE: before[HERE]}
    assert (found[HERE].is_ready, found[HERE].is_draining) == (True, True)
    gateway.serving.withdraw(after)
    after.publish()
    assert not found[HERE].is_draining
    for serving in (gateway.serving, after):
        await look(serving, tmp_path, THERE)
    await look(gateway.serving, tmp_path, HERE, THERE)
    found = await look(after, tmp_path, HERE, THERE)
    assert [endpoint.is_draining for endpoint in found.values()] == [False, False]
    clients = gateway.serving.found_clients()
    await gateway.serving.stop()
    assert not clients
    assert after.found_clients()[HERE]._uses
    await after.stop()


async def test_what_is_known_goes_on_by_other_rules_of_the_balancing(tmp_path: Path) -> None:
    gateway = gateway_of(tmp_path)
    before = (await look(gateway.serving, tmp_path, HERE))[HERE]
    before.is_ready = True
    after = prepared(gateway, tmp_path, f"{SETTINGS}balancing: {{ejection_seconds: 2}}\n")
    found = (await look(after, tmp_path, HERE))[HERE]
    assert (found is before, found.infer is before.infer, found.is_ready) == (False, True, True)
    await after.stop()
    await gateway.serving.stop()


async def test_an_entry_of_other_settings_has_clients_of_its_own(tmp_path: Path) -> None:
    gateway = gateway_of(tmp_path)
    before = (await look(gateway.serving, tmp_path, HERE))[HERE]
    after = prepared(gateway, tmp_path, SETTINGS.replace("7071", "7072"))
    found = (await look(after, tmp_path, HERE))[HERE]
    assert found.infer is not before.infer
    await after.stop()
    assert gateway.serving.found_clients()[HERE]._uses
    await gateway.serving.stop()


async def test_what_comes_once_the_configuration_before_has_ended_is_opened_anew(tmp_path: Path) -> None:
    gateway = gateway_of(tmp_path)
    before = (await look(gateway.serving, tmp_path, HERE, THERE))[HERE]
    after = prepared(gateway, tmp_path, SETTINGS)
    await look(after, tmp_path, THERE)
    await gateway.serving.stop()
    found = (await look(after, tmp_path, HERE, THERE))[HERE]
    assert found.infer is not before.infer
    await after.stop()


async def test_a_certificate_that_is_renewed_is_taken_for_a_client_of_the_configuration_before_too(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    secured = SETTINGS.replace("management_port: 7071", f"management_port: 7071, tls: {{ca: {authority.ca}}}")
    gateway = gateway_of(tmp_path, secured)
    await look(gateway.serving, tmp_path, HERE)
    after = prepared(gateway, tmp_path, secured)
    await look(after, tmp_path, HERE, THERE)
    await gateway.serving.stop()
    shared, own = (after.found_clients()[name].tls for name in (HERE, THERE))
    assert shared is not own
    (tmp_path / "other").mkdir()
    Authority(tmp_path / "other").ca.replace(authority.ca)
    after.refresh_channels()
    assert [tls.renewals for tls in (shared, own) if tls] == [1, 1]
    await after.stop()
