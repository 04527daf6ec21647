"""Stand-ins for what the unit tests do not start: an Infer that is also a Backend, a clock, a small model."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.contract import Contract
from gateway.errors import EndpointFailed
from gateway.inference import InferRequest, InferResponse, Tensor

VALUES = Tensor("values", "INT8", (1, 2), b"\x01\x02")
"""What `a_request` sends."""
SUM = Tensor("sum", "INT8", (1, 1), b"\x03")
"""What a `FakeInfer` answers."""

Answer = InferResponse | Exception | Callable[[InferRequest], Awaitable[InferResponse]]


class FakeInfer:
    """Gives one of `answers` to each call, the last one for ever after; without any, the sum of `VALUES`.

    Attributes:
        calls: the requests, in order.
        is_open: calls wait until it is set (it is, until a test clears it).
        cancelled: how many calls were cancelled while they waited.
        ready: what `is_ready` says.
    """

    def __init__(self, *answers: Answer, backend: str = "fake") -> None:
        self.calls: list[InferRequest] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.cancelled = 0
        self.ready = True
        self._answers = answers
        self._backend = backend

    async def __call__(self, request: InferRequest, /) -> InferResponse:
        self.calls.append(request)
        number = min(len(self.calls), len(self._answers))
        try:
            await self.is_open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        answer = self._answers[number - 1] if number else self._sum(request)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, InferResponse) else await answer(request)

    async def is_ready(self, _model: str, _version: str, _variant: str, /) -> bool:
        return self.ready

    async def aclose(self) -> None:
        self.ready = False

    def _sum(self, request: InferRequest) -> InferResponse:
        return InferResponse(
            request.model, request.version, (SUM,), variant=request.variant, backend=self._backend
        )


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def a_contract(**changes: Any) -> Contract:
    """A small model: two versions, `1` with two variants and the label `stable`; one input, one output."""
    fields: Mapping[str, Any] = {
        "name": "adder",
        "max_batch_size": 4,
        "inputs": [{"name": "values", "datatype": "INT8", "shape": [2]}],
        "outputs": [{"name": "sum", "datatype": "INT8", "shape": [1]}],
        "default_version": "1",
        "labels": {"stable": "1"},
        "versions": {
            "1": {"weights": "w1", "sha256": "1" * 64, "variants": ["fp32", "int8"]},
            "2": {"weights": "w2", "sha256": "2" * 64, "variants": ["fp32"]},
        },
        "cache": {"ttl_seconds": 60},
    }
    return Contract.model_validate({**fields, **changes})


def a_request(**changes: Any) -> InferRequest:
    """A request for `a_contract`'s model; its deadline never passes unless `changes` says so."""
    return InferRequest(**{"model": "adder", "inputs": (VALUES,), "deadline": float("inf"), **changes})


def a_failure(text: str = "it broke", *, endpoint: str = "a") -> EndpointFailed:
    """What a balancer raises after an attempt at `endpoint`."""
    failure = EndpointFailed(text)
    failure.endpoint = endpoint
    return failure


async def settle() -> None:
    """Let every task run until all of them wait for something else."""
    for _ in range(20):
        await asyncio.sleep(0)
