"""What the settings of an entry make of the addresses that are found for it."""

from pathlib import Path

import pytest

from gateway.app import build
from gateway.backends.torchserve import TorchServe
from gateway.inference import PoolKey
from gateway.loading import load_settings

SETTINGS = """
endpoints:
  still: {backend: torchserve, address: "h:1", management_address: "h:2"}
  found: {backend: torchserve, file: addresses.yaml, management_port: 7071}
passthrough: [{model: legacy, endpoints: [still, found]}, {model: older, endpoints: [found]}]
"""
TRACING = """
tracing: {otlp_endpoint: "http://127.0.0.1:1"}
"""


@pytest.mark.parametrize("more", ["", TRACING])
async def test_an_address_that_is_found_joins_every_pool_of_its_entry_over_one_client(
    tmp_path: Path, more: str
) -> None:
    (tmp_path / "addresses.yaml").write_text("[10.0.0.7:7070]")
    path = tmp_path / "inferway.yaml"
    path.write_text(SETTINGS + more)
    serving = build(load_settings(path, {}), tmp_path).serving
    (membership,) = serving._memberships
    await membership.look()
    legacy, older = (serving.pools[PoolKey(model, "", "")].endpoints for model in ("legacy", "older"))
    assert [endpoint.name for endpoint in legacy] == ["still", "found/10.0.0.7:7070"]
    assert [endpoint.name for endpoint in older] == ["found/10.0.0.7:7070"]
    assert legacy[1].infer is older[0].infer
    assert (older[0].backend, older[0] is legacy[1]) == ("torchserve", False)
    client = getattr(older[0].infer, "_backend", older[0].infer)  # under its spans, where there are any
    assert isinstance(client, TorchServe)
    assert (client._inference._address, client._management._address) == ("10.0.0.7:7070", "10.0.0.7:7071")
    await serving.stop()
