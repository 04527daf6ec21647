"""Stand-ins for what tests do not need in earnest."""

import asyncio
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from gateway.catalog import Catalog
from gateway.chain import chain
from gateway.contract import Contract
from gateway.errors import EndpointFailed
from gateway.inference import InferRequest, InferResponse, Tensor
from gateway.metrics import Metrics
from gateway.protocols.edge import Edge
from gateway.stages.measured import Measured
from gateway.stages.resolved import Resolved

VALUES = Tensor("values", "INT8", (1, 2), b"\x01\x02")
"""What `a_request` sends."""
SUM = Tensor("sum", "INT8", (1, 1), b"\x03")
"""What `a_contract`'s model makes of it."""

Answer = Callable[[InferRequest], tuple[Tensor, ...]] | InferResponse | Exception


class FakeInfer:
    """An Infer, and a Backend, that answers as it was told and keeps what it was asked.

    Args:
        answers: one for each call, the last one for ever after: a function from the request to the output
            tensors, a whole response, or an exception to raise; without any, `SUM`.

    Attributes:
        requests: what it was asked, in order.
        is_open: calls wait until it is set, as it is until a test clears it.
        cancelled: how many calls were cancelled while they waited.
    """

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[InferRequest] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.cancelled = 0
        self._answers = answers or (lambda _: (SUM,),)

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
        self.requests.append(request)
        try:
            await self.is_open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, InferResponse):
            return answer
        return InferResponse(request.model, request.version, answer(request), request.variant, backend="fake")

    async def is_ready(self, _model: str, _version: str, _variant: str, /) -> bool:
        return True

    async def aclose(self) -> None:
        """Nothing to close."""


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def fake_edge(infer: FakeInfer, *contracts: Contract, ready: bool = True, **attributes: Any) -> Edge:
    """An Edge whose chain is Resolved and then `infer`; every model is ready, or none is."""
    catalog = Catalog({contract.name: contract for contract in contracts})
    always: dict[str, Any] = {"max_request_bytes": 1024 * 1024, "is_ready": lambda _model, _version: ready}
    return Edge(
        infer=chain(partial(Resolved, catalog=catalog, max_request_bytes=2**26), to=infer),
        catalog=catalog,
        measured=Measured(Metrics(CollectorRegistry()), catalog),
        **{**always, **attributes},
    )


def a_version(*variants: str, sha256: str = "0" * 64, **more: Any) -> dict[str, Any]:
    """A contract's version with these variants, all from one checkpoint; `more` are keys of every variant."""
    return {"variants": {name: {"checkpoint": "w", "sha256": sha256, **more} for name in variants}}


def fake_contract(name: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], **more: Any) -> Contract:
    """A contract of one version from `{"x": ("FP32", [2])}`; an output may have labels as a third item."""

    def specs(tensors: Mapping[str, Any]) -> list[dict[str, Any]]:
        keys = ("datatype", "shape", "labels")
        return [{"name": name, **dict(zip(keys, spec, strict=False))} for name, spec in tensors.items()]

    content = {
        "max_batch_size": 8,
        "default_version": "1",
        "versions": {"1": a_version("fp32", "int8")},
        **more,
    }
    return Contract.model_validate(
        {"name": name, "inputs": specs(inputs), "outputs": specs(outputs), **content}
    )


def a_contract(**changes: Any) -> Contract:
    """A small model: two versions, `1` with two variants and the label `stable`; one input, one output."""
    versions = {
        "1": a_version("fp32", "int8", sha256="1" * 64),
        "2": a_version("fp32", sha256="2" * 64),
    }
    inputs = {"values": ("INT8", [2])}
    outputs = {"sum": ("INT8", [1])}
    content = {"max_batch_size": 4, "versions": versions, "labels": {"stable": "1"}}
    built = fake_contract("adder", inputs, outputs, **content, cache={"ttl_seconds": 60})
    return Contract.model_validate({**built.model_dump(), **changes})


def a_request(**changes: Any) -> InferRequest:
    """A request that fits `a_contract`; its deadline never passes unless `changes` says so."""
    return InferRequest(**{"model": "adder", "inputs": (VALUES,), "deadline": math.inf, **changes})


def a_failure(text: str = "it broke", *, endpoint: str = "a") -> EndpointFailed:
    """What a balancer raises after an attempt at `endpoint`."""
    failure = EndpointFailed(text)
    failure.endpoint = endpoint
    return failure


async def settle() -> None:
    """Let every task run until all of them wait for something else."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(is_so: Callable[[], object]) -> None:
    """Let the others run until it is so; TimeoutError when it never is."""
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - what is waited for knows nothing of tests
            await asyncio.sleep(0.001)
