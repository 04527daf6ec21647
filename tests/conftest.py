"""Fixtures for the tests that need real servers, and `--no-skips` for the run that must not leave one out."""

import gc
import signal
from collections.abc import Generator, Iterator
from typing import NoReturn

import psutil
import pytest

from services.tensorrt.run import models_of
from services.torchserve.run import archives_in
from tests.serving import (
    BUILT,
    EMBEDDED,
    ROOT,
    Engine,
    StartedGateway,
    running_gateway,
    running_tfserving,
    running_torchserve,
    running_triton,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--no-skips`: what `make test` and CI use."""
    parser.addoption("--no-skips", action="store_true", help="a test that would be skipped fails instead")


def pytest_configure(config: pytest.Config) -> None:
    """Let a run that is told to stop end its fixtures, as Ctrl+C does: servers outlive a killed parent."""

    def interrupt(number: int, _: object) -> NoReturn:
        signal.signal(number, lambda *_: None)  # a second must not stop the ending that the first began
        if config.pluginmanager.hasplugin("dsession"):  # its own processes have the fixtures
            for process in psutil.Process().children():
                process.send_signal(number)
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
            signal.signal(number, interrupt)


def pytest_collection_finish() -> None:
    """Keep what has been imported and collected out of the garbage collector's sight.

    All of it stays to the end, and a full collection that walks it takes half a second. What a test makes is
    looked at as ever.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where it is asked for."""
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"must not be skipped here: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def torchserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The real TorchServe with every model; tests that kill an engine start their own."""
    models = sorted({archive.model for archive in archives_in(BUILT / "torchserve")})
    with running_torchserve(tmp_path_factory.mktemp("torchserve"), models) as engine:
        yield engine


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The real Triton with every model; tests that kill an engine start their own."""
    with running_triton(tmp_path_factory.mktemp("triton"), models_of(BUILT / "triton")) as engine:
        yield engine


@pytest.fixture(scope="session")
def tfserving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The stand-in for TF Serving with every model; tests that kill an engine start their own."""
    with running_tfserving(tmp_path_factory.mktemp("tfserving")) as engine:
        yield engine


@pytest.fixture(scope="session")
def embedded_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedGateway]:
    """A gateway with the embedded engine."""
    settings = {"endpoints": {"embedded": EMBEDDED}}
    with running_gateway(tmp_path_factory.mktemp("gateway"), settings) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def whole_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedGateway]:
    """A gateway that serves every variant of every model by itself."""
    names = [path.parent.name for path in ROOT.glob("models/*/model.yaml")]
    settings = {
        "models": [str(ROOT / "models" / name) for name in names],
        "endpoints": {"embedded": EMBEDDED},
        "pools": [{"model": name, "endpoints": ["embedded"]} for name in names],
    }
    with running_gateway(tmp_path_factory.mktemp("whole"), settings) as gateway:
        yield gateway
