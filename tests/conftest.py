"""Fixtures for the tests that need real servers."""

from collections.abc import Iterator

import pytest

from tests.serving import (
    Engine,
    StartedGateway,
    running_gateway,
    running_tfserving,
    running_torchserve,
    running_triton,
)


@pytest.fixture(scope="session")
def torchserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The real TorchServe; tests that kill an engine start their own."""
    with running_torchserve(tmp_path_factory.mktemp("torchserve")) as engine:
        yield engine


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The real Triton; tests that kill an engine start their own."""
    with running_triton(tmp_path_factory.mktemp("triton")) as engine:
        yield engine


@pytest.fixture(scope="session")
def tfserving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The stand-in for TF Serving; tests that kill an engine start their own."""
    with running_tfserving(tmp_path_factory.mktemp("tfserving")) as engine:
        yield engine


@pytest.fixture(scope="session")
def embedded_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedGateway]:
    """A gateway with the embedded engine."""
    settings = {"endpoints": {"embedded": {"backend": "onnxruntime"}}}
    with running_gateway(tmp_path_factory.mktemp("gateway"), settings) as gateway:
        yield gateway
