"""One engine, its images and the stack, for all tests of this folder."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker import stand_ins
from tests.docker.engine import Engine, missing, running_engine, trace
from tests.docker.images import build_all
from tests.docker.stack import Stack, running_stack


@pytest.fixture(scope="package")
def engine() -> Iterator[Engine]:
    """A Docker engine with the project's images and those of others, stood for; it leaves nothing behind."""
    if reason := missing():
        pytest.skip(f"no Docker engine can be started here: {reason}")
    stand_ins.prepare()
    before = trace()
    folder = Path(tempfile.mkdtemp(prefix="inferway-docker-"))
    with (
        running_engine(folder) as engine,
        stand_ins.served_wheels(engine.gateway) as wheels,
    ):
        stand_ins.make(engine, wheels)
        build_all(engine)
        yield engine
    assert trace() == before
    assert not folder.exists()


@pytest.fixture(scope="package")
def stack(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack of docker-compose.yml, up and ready."""
    with running_stack(engine, tmp_path_factory.mktemp("stack")) as stack:
        yield stack
    assert engine.client.containers.list(all=True) == []
    assert engine.client.volumes.list() == []
    assert {network.name for network in engine.client.networks.list()} == {"bridge", "host", "none"}
