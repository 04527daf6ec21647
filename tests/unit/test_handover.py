"""A client serves every configuration that it fits, and is closed with the last of them."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.handover import Client, Use
from gateway.inference import PoolKey
from gateway.settings import EndpointSettings
from tests.fakes import FakeInfer, a_contract, settle

KEY, OTHER = PoolKey("adder", "1", "fp32"), PoolKey("adder", "2", "fp32")
TRITON = EndpointSettings(backend="triton", address="a:1")


class Closable(FakeInfer):
    closed = 0

    async def aclose(self) -> None:
        self.closed += 1


def use(
    *,
    settings: EndpointSettings = TRITON,
    files: Mapping[PoolKey, tuple[Path, ...]] | None = None,
    **changes: Any,
) -> Use:
    contract = a_contract(**changes)
    return Use(settings, {contract.name: contract}, frozenset({KEY}), files or {})


def kept(first: Use) -> tuple[Client, Closable]:
    backend = Closable()
    client = Client(backend, {})
    client.keep(first)
    return client, backend


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"default_version": "2"}, True),
        ({"timeout_seconds": 1.0, "cache": {"enabled": False}}, True),
        ({"max_batch_size": 5}, False),
        ({"outputs": [{"name": "sum", "datatype": "INT16", "shape": [1]}]}, False),
        ({"settings": EndpointSettings(backend="triton", address="a:2")}, False),
    ],
)
def test_a_client_fits_while_its_settings_and_its_models_tensors_are_the_same(
    changes: dict[str, Any], fits: bool
) -> None:
    client, _ = kept(use())
    assert client.fits(use(**changes)) is fits


def test_a_model_that_loses_its_contract_needs_another_client() -> None:
    client, _ = kept(use())
    assert not client.fits(Use(TRITON, {}, frozenset({PoolKey("adder", "", "")})))


def test_a_client_learns_the_contracts_of_models_that_come() -> None:
    client, _ = kept(use())
    more = a_contract(name="more")
    client.keep(Use(TRITON, {"more": more}, frozenset({PoolKey("more", "1", "fp32")})))
    assert set(client.contracts) == {"adder", "more"}


def test_a_file_that_is_written_anew_needs_another_client_and_a_new_one_does_not(tmp_path: Path) -> None:
    network, weights, new = tmp_path / "1", tmp_path / "1.weights", tmp_path / "2"
    network.write_bytes(b"first")
    weights.write_bytes(b"first")
    known = {KEY: (network, weights)}
    client, _ = kept(use(files=known))
    new.write_bytes(b"another version")
    assert client.fits(use(files={**known, OTHER: (new,)}))
    weights.write_bytes(b"written anew")
    assert not client.fits(use(files=known))


async def test_a_client_is_closed_when_no_configuration_has_it() -> None:
    first, second = use(), use()
    client, backend = kept(first)
    client.keep(second)
    await client.release(first)
    assert backend.closed == 0
    await client.release(second)
    assert backend.closed == 1


async def test_what_no_configuration_serves_any_more_is_forgotten() -> None:
    served: list[set[PoolKey]] = []
    client = Client(FakeInfer(), {}, forget=lambda pools: served.append(set(pools)))
    both = Use(TRITON, {}, frozenset({KEY, OTHER}))
    client.keep(both)
    client.keep(Use(TRITON, {}, frozenset({OTHER})))
    await client.release(both)
    assert served == [{OTHER}]


async def test_a_release_that_was_cut_off_while_it_closed_is_done_again() -> None:
    class Slow(Closable):
        async def aclose(self) -> None:
            await self.is_open.wait()
            await super().aclose()

    backend, first = Slow(), use()
    backend.is_open.clear()
    client = Client(backend, {})
    client.keep(first)
    task = asyncio.create_task(client.release(first))
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    backend.is_open.set()
    await client.release(first)
    assert backend.closed == 1
