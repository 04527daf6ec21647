"""Every variant of every model gives one answer, whichever engine gives it, over REST and over gRPC.

Each real engine is asked for the model's examples by way of a gateway; right is what the variant's ONNX file
answered when it was judged.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.backends import engine_model_name
from gateway.configuration import load
from gateway.contract import Contract
from models import parity, samples
from models.evaluation.answers import stack
from models.publishing import ANSWERS
from services.protocol import open_inference_pb2 as oip
from tests.serving import BUILT, EMBEDDED, ROOT, StartedGateway, running_gateway

ENGINES = ("torchserve", "triton", "tfserving", "onnxruntime")
CONTRACTS = {path.parent.name: load(Contract, path) for path in sorted(ROOT.glob("models/*/model.yaml"))}
LARGE_BYTES = 2_000_000
"""A model whose checkpoint is larger is asked for a part of its examples: each takes it long."""
LARGE_EXAMPLES, LARGE_BATCH = 40, 4
BATCH = 50
TIMEOUT_SECONDS = 60.0
"""Of one attempt: a busy machine takes its time, and this test is about answers."""

Inputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Reply:
    """The first output, and who answered."""

    values: NDArray[np.float32]
    variant: str
    backend: str


def published(engine: str) -> Iterator[tuple[str, str]]:
    """Models and variants that the engine serves."""
    for name, contract in CONTRACTS.items():
        for variant, spec in contract.versions[contract.default_version].variants.items():
            if engine not in spec.unpublished:
                yield name, variant


@pytest.fixture(scope="module")
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartedGateway]:
    """A gateway with all that one engine serves."""
    engine = request.param
    endpoint = EMBEDDED if engine == "onnxruntime" else request.getfixturevalue(engine).endpoint
    models = dict.fromkeys(name for name, _ in published(engine))
    settings = {
        "models": [str(ROOT / "models" / name) for name in models],
        "endpoints": {engine: endpoint},
        "pools": [{"model": name, "endpoints": [engine]} for name in models],
        "balancing": {"attempt_timeout_seconds": TIMEOUT_SECONDS, "warm_up_timeout_seconds": TIMEOUT_SECONDS},
    }
    with running_gateway(tmp_path_factory.mktemp(engine), settings) as started:
        yield started


def over_rest(gateway: StartedGateway, model: str, variant: str, inputs: Inputs) -> Reply:
    contract = CONTRACTS[model]
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": spec.name,
                    "datatype": spec.datatype,
                    "shape": inputs[spec.name].shape,
                    "parameters": {"binary_data_size": inputs[spec.name].nbytes},
                }
                for spec in contract.inputs
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    request = urllib.request.Request(
        f"http://{gateway.http}/v2/models/{model}/infer",
        head + b"".join(inputs[spec.name].tobytes() for spec in contract.inputs),
        {"Inference-Header-Content-Length": str(len(head)), "X-Inferway-Variant": variant},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:  # noqa: S310
        body, facts = reply.read(), reply.headers
    size = int(facts["Inference-Header-Content-Length"])
    first = json.loads(body[:size])["outputs"][0]
    values = np.frombuffer(body, "<f4", int(np.prod(first["shape"])), size).reshape(first["shape"])
    return Reply(values, facts["X-Inferway-Variant"], facts["X-Inferway-Backend"])


def over_grpc(gateway: StartedGateway, model: str, variant: str, inputs: Inputs) -> Reply:
    request = oip.ModelInferRequest(model_name=model)
    request.parameters["variant"].string_param = variant
    for spec in CONTRACTS[model].inputs:
        value = inputs[spec.name]
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=value.shape)
        request.raw_input_contents.append(value.tobytes())
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(gateway.grpc, options=options) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelInferResponse.FromString,
        )
        reply = infer(request, timeout=TIMEOUT_SECONDS)
    values = np.frombuffer(reply.raw_output_contents[0], "<f4").reshape(reply.outputs[0].shape)
    facts = {name: value.string_param for name, value in reply.parameters.items()}
    return Reply(values, facts["x-inferway-variant"], facts["x-inferway-backend"])


def when_ready(ask: Callable[[], Reply]) -> Reply:
    """The answer; a variant other than the default may be ready a little after the gateway is."""
    give_up = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            return ask()
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > give_up:
                raise AssertionError(error.read().decode()) from error
        time.sleep(0.1)


def examples(model: str) -> Iterator[tuple[slice, Inputs]]:
    """Batches of the model's examples, and where they lie among these."""
    folder = ROOT / "models" / model
    contract = CONTRACTS[model]
    variants = contract.versions[contract.default_version].variants
    is_large = (folder / variants["fp32"].checkpoint).stat().st_size > LARGE_BYTES
    payloads = samples.read(folder / "examples.zip").payloads[: LARGE_EXAMPLES if is_large else None]
    size = min(LARGE_BATCH if is_large else BATCH, contract.max_batch_size)
    to_inputs = import_module(f"models.{model}.transform").to_inputs
    padded = {spec.name: spec.padded.model_dump() for spec in contract.inputs if spec.padded}
    for start in range(0, len(payloads), size):
        rows = slice(start, start + size)
        yield rows, stack([to_inputs(payload) for payload in payloads[rows]], padded)


@pytest.mark.engine
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("gateway", "engine", "model", "variant"),
    [(engine, engine, *cell) for engine in ENGINES for cell in published(engine)],
    indirect=["gateway"],
)
def test_a_variant_answers_alike_in_every_engine_and_is_named(
    gateway: StartedGateway, engine: str, model: str, variant: str
) -> None:
    contract = CONTRACTS[model]
    version = contract.default_version
    right = np.load(BUILT / "onnx" / engine_model_name(model, variant) / version / ANSWERS)
    found = []
    for index, (rows, inputs) in enumerate(examples(model)):
        if index % 2:
            reply = over_grpc(gateway, model, variant, inputs)
        else:
            reply = when_ready(partial(over_rest, gateway, model, variant, inputs))
        assert (reply.variant, reply.backend) == (variant, engine)
        assert len(reply.values) == len(right[rows])
        found.append(reply.values)
    likeness = parity.compare(np.concatenate(found), right[: sum(map(len, found))])
    has_labels = contract.task == "classification"
    assert parity.check(likeness, is_fp32=variant == "fp32", has_labels=has_labels)
