"""A change of a file that a reload is about is seen, and so is one that would mend what was refused."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from gateway import reload, server
from gateway.app import Front
from gateway.configuration import ConfigurationError
from gateway.settings import Settings
from services.launch import free_port
from tests.unit.reload.reload_rig import SOON, Rig, ask, replace_weights, until, write_network


async def test_a_file_that_was_missing_is_waited_for(rig: Rig) -> None:
    file = rig.folder / "onnx" / "scale" / "2" / "model.onnx"
    rig.versions("1", "2", default="2", built=False)
    assert await rig.reloads.reload() == "invalid"
    assert not rig.reloads._watch.changed()
    write_network(file, 2.0)
    assert rig.reloads._watch.changed()
    assert await rig.reloads.reload() == "ok"
    assert await rig.answer() == ("2", 2.0)


async def test_an_example_that_was_missing_is_waited_for(rig: Rig) -> None:
    contract = rig.folder / "scale" / "model.yaml"
    contract.write_text(contract.read_text() + "example: one.json\n")
    assert await rig.reloads.reload() == "invalid"
    assert not rig.reloads._watch.changed()
    (rig.folder / "scale" / "one.json").write_text("{}")
    assert rig.reloads._watch.changed()


@pytest.mark.parametrize("weights", ["", "by.bin"])
async def test_a_file_that_was_of_no_use_is_looked_at_until_it_is(rig: Rig, weights: str) -> None:
    file = rig.folder / "onnx" / "scale" / "2" / "model.onnx"
    write_network(file, 2.0, weights)
    broken = file.with_name(weights) if weights else file
    content = broken.read_bytes()
    broken.write_bytes(b"no")
    rig.versions("1", "2", default="2")
    for _ in range(2):
        assert await rig.reloads.reload() == "not_ready"
        assert not rig.reloads._watch.changed()
    broken.write_bytes(content)
    assert rig.reloads._watch.changed()
    assert await rig.reloads.reload() == "ok"
    assert await rig.answer() == ("2", 2.0)


async def test_a_file_that_comes_while_it_is_missed_is_seen(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(_: Settings) -> Front:
        file.touch()
        raise ConfigurationError("there is no such file", file)

    file = rig.folder / "late"
    monkeypatch.setattr(rig.gateway, "prepare", prepare)
    assert await rig.reloads.reload() == "invalid"
    assert rig.reloads._watch.changed()


async def test_weights_beside_the_file_are_part_of_it(rig: Rig) -> None:
    file = rig.folder / "onnx" / "scale" / "1" / "model.onnx"
    contract = rig.folder / "scale" / "model.yaml"
    contract.write_text(contract.read_text().replace("enabled: false", "enabled: true"))
    write_network(file, 5.0, weights="by.bin")
    assert await rig.reloads.reload() == "ok"
    assert [(await ask(rig.gateway)).cache for _ in range(2)] == ["miss", "memory"]
    assert await rig.answer() == ("1", 5.0)
    assert not rig.reloads._watch.changed()
    replace_weights(file.with_name("by.bin"), 6.0)
    assert rig.reloads._watch.changed()
    assert await rig.reloads.reload() == "ok"
    assert await rig.answer() == ("1", 6.0)
    replace_weights(file.with_name("by.bin"), 5.0)
    assert await rig.reloads.reload() == "ok"
    again = await ask(rig.gateway)
    assert (again.cache, again.outputs[0].numpy()[0, 0]) == ("memory", 5.0)  # the first weights again


async def test_a_change_of_a_file_is_seen_and_a_signal_is_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "WATCH_SECONDS", 0.02)
    rig = Rig(tmp_path)
    ports = {name: free_port() for name in ("http_port", "grpc_port", "admin_port")}
    settings = rig.gateway.front.settings.server.model_copy(update=ports)
    serving = asyncio.create_task(server.serve(rig.gateway, settings, rig.reloads))
    await until(lambda: rig.gateway.serving.is_ready("scale", "1"))
    rig.versions("1", "2", default="2")
    await until(lambda: rig.gateway.edge.catalog.version("scale") == "2")
    first = rig.gateway.front
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: rig.gateway.front is not first)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, SOON)


async def test_without_the_watch_a_change_of_a_file_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "WATCH_SECONDS", 0.01)
    rig = Rig(tmp_path)
    rig.settings(reload={"watch": False})
    async with rig.gateway:
        assert await rig.reloads.reload() == "ok"
        running = asyncio.create_task(rig.reloads.run())
        rig.versions("1", "2", default="2")
        await asyncio.sleep(0.2)
        assert rig.gateway.edge.catalog.version("scale") == "1"
        rig.reloads.ask()
        await until(lambda: rig.gateway.edge.catalog.version("scale") == "2")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
