"""An Edge for TorchServe's protocols: models that take files, or none, and one that is passed through."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from gateway.catalog import Catalog
from gateway.chain import chain
from gateway.inference import InferRequest, Tensor
from gateway.metrics import Metrics
from gateway.protocols.edge import Edge
from gateway.stages.measured import Measured
from gateway.stages.resolved import Resolved
from tests.fakes import Answer, FakeInfer, a_version, fake_contract

VERSION = a_version("fp32")
DIGITS = fake_contract(
    "digits",
    {"image": ("UINT8", [3])},
    {"scores": ("FP32", [2], ["odd", "even"])},
    versions={"1": VERSION, "2": VERSION},
)
PLAIN = fake_contract("plain", {"x": ("FP32", [2])}, {"y": ("FP32", [2]), "name": ("BYTES", [1])})
PAIR = fake_contract(
    "pair", {"a": ("INT64", []), "b": ("INT64", [2])}, {"y": ("INT64", [])}, max_batch_size=0
)
FILE = b"IMG\x01\x02\x03"
"""What `digits` takes: an image of three pixels, the last of which decides what it shows."""


class ThreePixels:
    """The transform of `digits`."""

    def to_inputs(self, payload: bytes) -> dict[str, NDArray[np.generic]]:
        if not payload.startswith(b"IMG") or len(payload) != len(FILE):
            raise ValueError("image: expected an IMG file, got something else")
        return {"image": np.frombuffer(payload[3:], np.uint8)}

    def to_answer(self, outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
        odd, even = (float(score) for score in outputs["scores"])
        return {"odd": odd, "even": even} if odd > even else {"even": even, "odd": odd}


def outputs(request: InferRequest) -> tuple[Tensor, ...]:
    """Right answers for every model of the rig."""
    match request.model:
        case "digits":
            last = request.inputs[0].numpy()[:, -1].astype(np.int64)
            scores = np.stack([last % 2, 1 - last % 2], axis=1)
            return (Tensor.of("scores", "FP32", scores),)
        case "plain":
            x = request.inputs[0].numpy()
            names = Tensor.of_bytes("name", (len(x), 1), [b"row"] * len(x))
            return (Tensor.of("y", "FP32", x), names)
        case "pair":
            return (Tensor.of("y", "INT64", np.array(7)),)
    return (Tensor.of_bytes("prediction", (1,), [b"raw \xff reply"]),)


CATALOG = Catalog(
    {contract.name: contract for contract in (DIGITS, PLAIN, PAIR)},
    {"digits": ThreePixels()},
    frozenset({"own"}),
)


def torchserve_edge(
    *answers: Answer, ready: bool = True, catalog: Catalog = CATALOG, **attributes: Any
) -> tuple[Edge, FakeInfer]:
    """The edge, and the Infer behind Resolved that keeps what it was asked."""
    infer = FakeInfer(*(answers or (outputs,)))
    edge = Edge(
        infer=chain(partial(Resolved, catalog=catalog, max_request_bytes=2**26), to=infer),
        catalog=catalog,
        is_ready=lambda _model, _version: ready,
        measured=Measured(Metrics(CollectorRegistry()), catalog),
        **{"max_request_bytes": 1024 * 1024, **attributes},
    )
    return edge, infer
