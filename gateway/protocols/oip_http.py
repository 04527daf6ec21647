"""The Open Inference Protocol over REST, with Triton's extensions.

Specification: https://github.com/kserve/open-inference-protocol (inference_rest); extensions: Triton's
docs/protocol (`binary_data`, `classification`, `model_configuration`, `statistics`, `parameters`, and of
`model_repository` the index). Where Triton 2.51 and the specification differ, the specification holds:
`binary_data_output` is the default of listed outputs too, and a wrong request is a 400, not a 500.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import orjson
from starlette.routing import Route

from gateway.contract import Contract
from gateway.errors import MalformedBody, Unsupported
from gateway.inference import InferRequest, InferResponse
from gateway.protocols import oip_metadata
from gateway.protocols.edge import (
    PRIORITY,
    Edge,
    backend_parameters,
    priority,
    timeout_seconds,
)
from gateway.protocols.http import HttpCall, Routes
from gateway.protocols.http_reply import HttpReply, answer
from gateway.protocols.oip_classification import classify
from gateway.protocols.oip_fields import optional, shown
from gateway.protocols.oip_heads import KNOWN, Heads
from gateway.protocols.oip_json import parse_json, tensor_to_json
from gateway.protocols.oip_request import HEADER_LENGTH, OipBody
from gateway.protocols.problems import error_object

PROTOCOL = "oip_http"
OCTETS = b"application/octet-stream"
UNSUPPORTED_PATHS = (
    "/v2/repository/models/{model}/load",
    "/v2/repository/models/{model}/unload",
    "/v2/systemsharedmemory/{rest:path}",
    "/v2/cudasharedmemory/{rest:path}",
    "/v2/models/{model}/trace/setting",
    "/v2/trace/setting",
    "/v2/logging",
)
"""Parts of Triton's protocol that Inferway does not serve; no entry of `extensions` promises them."""

_LENGTH = HEADER_LENGTH.lower()
_HEADER_LENGTH, _PRIORITY = _LENGTH.encode(), PRIORITY.encode()

_NOT_READY = 400
"""The status of "false" for the specification (any 4xx) and for Triton."""


def routes(edge: Edge) -> list[Route]:
    """Every route of the protocol."""
    oip = _OpenInference(edge)
    collected = Routes(edge, PROTOCOL, error_object)
    for path in ("/v2", "/v2/"):  # the specification's two files write it either way
        collected.add("GET", path, oip.server_metadata)
    collected.add("GET", "/v2/health/live", oip.live, is_open=True)
    collected.add("GET", "/v2/health/ready", oip.ready, is_open=True)
    collected.add("GET", "/v2/models/stats", oip.statistics)
    collected.add("POST", "/v2/repository/index", oip.repository_index)
    for path in UNSUPPORTED_PATHS:
        collected.add("GET,POST", path, oip.unsupported)
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        collected.add("GET", path, oip.model_metadata)
        collected.add("GET", f"{path}/ready", oip.model_ready)
        collected.add("GET", f"{path}/config", oip.model_config)
        collected.add("GET", f"{path}/stats", oip.statistics)
        collected.add("POST", f"{path}/infer", oip.infer, measures=True)
    return collected.routes


class _OpenInference:
    """The handlers."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._heads = Heads()

    async def live(self, _: HttpCall) -> HttpReply:
        """Whether the gateway runs."""
        return _truth(True, live=True)

    async def ready(self, _: HttpCall) -> HttpReply:
        """Whether to send requests: once every model could be answered, then while any can."""
        ready = self._edge.ready
        # `live` is what the specification has here, and `ready` is what KServe's clients read.
        return _truth(ready, live=True, ready=ready)

    async def server_metadata(self, _: HttpCall) -> HttpReply:
        """Name, version and the extensions that work."""
        return _json(oip_metadata.server_metadata())

    async def model_metadata(self, call: HttpCall) -> HttpReply:
        """A model's versions, inputs and outputs."""
        return _json(oip_metadata.model_metadata(self._edge.catalog, *_model_version(call)))

    async def model_ready(self, call: HttpCall) -> HttpReply:
        """Whether a version can be answered; without one, the default version."""
        model, version = _model_version(call)
        ready = self._edge.is_ready(model, self._edge.catalog.version(model, version=version))
        return _truth(ready, name=model, ready=ready)

    async def model_config(self, call: HttpCall) -> HttpReply:
        """A model's configuration in Triton's words."""
        return _json(oip_metadata.model_config(self._edge.catalog, *_model_version(call)))

    async def statistics(self, call: HttpCall) -> HttpReply:
        """Counts and times of a version, a model or all of them."""
        return _json(oip_metadata.model_statistics(self._edge, *_model_version(call)))

    async def repository_index(self, call: HttpCall) -> HttpReply:
        """Every version of every model and whether it is ready."""
        content = parse_json(call.body) if call.body else {}
        if not isinstance(content, dict):
            raise MalformedBody(f"the body: expected an object, got {shown(content)}")
        ready_only = optional(content, "ready", bool, default=False)
        return _json(oip_metadata.repository_index(self._edge, ready_only=ready_only))

    async def unsupported(self, _: HttpCall) -> HttpReply:
        """A part of Triton's protocol that Inferway does not serve."""
        raise Unsupported("Inferway has no shared memory, model control, trace or log settings")

    async def infer(self, call: HttpCall) -> HttpReply:
        """One inference."""
        model, version = _model_version(call)
        contract = self._edge.catalog.contract(model)
        self._edge.catalog.version(model, version=version)
        body = self._heads.read(call.body, call.headers.get(_HEADER_LENGTH), contract)
        asked, own = call.timeout_seconds, timeout_seconds(body.parameters)
        if own and (not asked or own < asked):
            asked = own
        request = InferRequest(
            model=model,
            version=version,
            variant=str(body.parameters.get("variant", call.variant)),
            sticky=call.sticky,
            inputs=body.inputs,
            outputs=tuple(body.forms),
            parameters=backend_parameters(body.parameters),
            deadline=self._edge.deadline(model, asked, arrived=call.arrived),
            id=body.id,
            priority=priority(body.parameters, call.header(_PRIORITY)),
        )
        response = await self._edge.infer(request)
        call.measurement.answered(response)
        return _encode(response, body, contract)


def _encode(response: InferResponse, body: OipBody, contract: Contract) -> HttpReply:
    """The reply in the form asked for: JSON, with the outputs that were wanted so behind it."""
    forms = [body.form(tensor.name) for tensor in response.outputs]
    binary_forms = [form.binary for form in forms]
    if forms and not (response.id or response.parameters or any(form.classes for form in forms)):
        if not any(binary_forms):
            return _all_json(response)
        if all(binary_forms):
            return _all_binary(response)
    entries = []
    binary = []
    for tensor, form in zip(response.outputs, forms, strict=True):
        if form.classes:
            labels = contract.output_spec(tensor.name).labels
            tensor = classify(tensor, form.classes, labels, batched=contract.max_batch_size > 0)  # noqa: PLW2901
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if form.binary:
            entry["parameters"] = {"binary_data_size": len(tensor.data)}
            binary.append(tensor.data)
        else:
            entry["data"] = tensor_to_json(tensor)
        entries.append(entry)
    content: dict[str, Any] = {"id": response.id} if response.id else {}
    content |= {"model_name": response.model, "model_version": response.version}
    if response.parameters:
        content["parameters"] = dict(response.parameters)
    content["outputs"] = entries
    header = orjson.dumps(content)
    return _binary(response, header, binary) if binary else answer(response, header)


def _all_binary(response: InferResponse) -> HttpReply:
    """The reply with all outputs behind the JSON."""
    outputs = tuple([(each.name, each.datatype, each.shape, len(each.data)) for each in response.outputs])
    header = _before_binary(response.model, response.version, outputs)
    return _binary(response, header, [tensor.data for tensor in response.outputs])


@lru_cache(KNOWN)
def _before_binary(
    model: str, version: str, outputs: tuple[tuple[str, str, tuple[int, ...], int], ...]
) -> bytes:
    """The JSON in front of outputs that all stand behind it; each is name, datatype, shape and bytes."""
    listed = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
        for name, datatype, shape, size in outputs
    ]
    return orjson.dumps({"model_name": model, "model_version": version, "outputs": listed})


def _all_json(response: InferResponse) -> HttpReply:
    """The reply with the values of all outputs in the JSON."""
    outputs = tuple([(each.name, each.datatype, each.shape) for each in response.outputs])
    parts: list[bytes] = []
    for before, tensor in zip(
        _before_values(response.model, response.version, outputs), response.outputs, strict=True
    ):
        parts += (before, orjson.dumps(tensor_to_json(tensor)))
    return answer(response, b"".join((*parts, b"}]}")))


@lru_cache(KNOWN)
def _before_values(
    model: str, version: str, outputs: tuple[tuple[str, str, tuple[int, ...]], ...]
) -> tuple[bytes, ...]:
    """The JSON in front of the values of each output; each is name, datatype and shape."""
    opening = orjson.dumps({"model_name": model, "model_version": version})[:-1] + b',"outputs":['
    entries = [
        orjson.dumps({"name": name, "datatype": datatype, "shape": shape})[:-1] + b',"data":'
        for name, datatype, shape in outputs
    ]
    return (opening + entries[0], *[b"}," + entry for entry in entries[1:]])


def _binary(response: InferResponse, header: bytes, tensors: Iterable[bytes | memoryview]) -> HttpReply:
    return answer(response, b"".join((header, *tensors)), OCTETS, (_LENGTH, str(len(header))))


def _model_version(call: HttpCall) -> tuple[str, str]:
    return call.path.get("model", ""), call.path.get("version", "")


def _json(content: object, status: int = 200) -> HttpReply:
    return HttpReply(orjson.dumps(content), status)


def _truth(holds: bool, **content: object) -> HttpReply:
    """A health reply: the status says it for Triton's clients, the object for KServe's."""
    return _json(content, 200 if holds else _NOT_READY)
