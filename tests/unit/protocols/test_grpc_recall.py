"""Recall over OIP gRPC: known messages get the answer that reading them would get, if their key may ask."""

from dataclasses import replace
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from gateway.caching.memory import MemoryStore
from gateway.caching.recall import Recall
from gateway.chain import chain
from gateway.errors import ModelForbidden
from gateway.metrics import Metrics
from gateway.protocols.grpc_wire import wire_form
from gateway.protocols.wire_content import BINARY_BYTES, SHORT_BYTES
from gateway.stages.cached import Cached
from gateway.stages.resolved import Resolved
from services.protocol import open_inference_pb2 as oip
from tests.unit.protocols.oip_grpc_rig import Rig

PATH = "inference.GRPCInferenceService/ModelInfer"


class Door:
    """An Access that lets nobody ask for some models."""

    def __init__(self) -> None:
        self.closed: set[str] = set()

    def check_model(self, model: str) -> None:
        if model in self.closed:
            raise ModelForbidden(f"this key may not call model '{model}'")


def recalling(rig: Rig, **attributes: Any) -> Rig:
    """The rig's service with a memory tier and a Recall beside it."""
    edge, store, metrics = rig.edge, MemoryStore(2**20), Metrics(CollectorRegistry())
    contracts = edge.catalog.contracts
    stages = (
        partial(Resolved, catalog=edge.catalog, max_request_bytes=2**20),
        partial(Cached, store=store, tier="memory", contracts=contracts, metrics=metrics),
    )
    hits = {"digits": metrics.lookups.labels("digits", "memory", "hit")}
    saved = {"digits": metrics.cache_saved.labels("digits", "memory")}
    recall: Recall[bytes] = Recall(store, 2**20, hits, saved)
    rig.edge = replace(edge, infer=chain(*stages, to=rig.infer_stage), recall=recall, **attributes)
    return rig


def message(value: float = 1.0, **more: Any) -> oip.ModelInferRequest:
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=[1, 2, 2])
    data = np.full((1, 2, 2), value, np.float32).tobytes()
    return oip.ModelInferRequest(model_name="digits", inputs=[tensor], raw_input_contents=[data], **more)


async def test_the_third_of_equal_messages_gets_what_the_second_got() -> None:
    async with recalling(Rig()) as rig:
        miss, hit, recalled = [await rig.infer(message()) for _ in range(3)]
        assert len(rig.infer_stage.requests) == 1
    assert (miss.parameters["x-inferway-cache"].string_param, hit) == ("miss", recalled)
    assert recalled.parameters["x-inferway-cache"].string_param == "memory"


async def test_every_caller_gets_its_own_id_and_its_own_variant() -> None:
    async with recalling(Rig()) as rig:
        for _ in range(3):
            assert [(await rig.infer(message(id=name))).id for name in ("a", "b", "")] == ["a", "b", ""]
            asked = await rig.infer(message(), metadata=[("x-inferway-variant", "int8")])
            assert asked.parameters["x-inferway-variant"].string_param == "int8"


async def test_a_key_that_may_not_ask_the_model_gets_no_answer_of_others() -> None:
    door: Any = Door()
    async with recalling(Rig(), access=door) as rig:
        for _ in range(3):
            await rig.infer(message())
        door.closed.add("digits")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await rig.infer(message())
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_malformed_priority_is_refused_however_often_the_message_was_answered() -> None:
    async with recalling(Rig()) as rig:
        for _ in range(3):
            await rig.infer(message())
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await rig.infer(message(), metadata=[("x-request-priority", "first")])
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("size", [1, SHORT_BYTES, SHORT_BYTES + 1])
def test_the_wire_form_has_all_that_an_answer_depends_on(size: int) -> None:
    data = bytes(size)
    forms = [
        wire_form(PATH, {}, data),
        wire_form(PATH, {}, data + b"x"),
        wire_form("other", {}, data),
        wire_form(PATH, {"x-inferway-variant": "int8"}, data),
    ]
    assert len(set(forms)) == len(forms)
    assert wire_form(PATH, {"authorization": "me"}, data) == forms[0]
    assert wire_form(PATH, {}, bytes(BINARY_BYTES + 1)) is None
