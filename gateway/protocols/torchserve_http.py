"""TorchServe's REST: inference and the read-only part of management, on one port.

Reference: TorchServe 0.12's docs/inference_api and docs/management_api, and the behaviour of its server where
they are silent. Registering, scaling and unregistering are refused as it refuses them without
`enable_model_api`.
"""

import re
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import orjson
from starlette.routing import Route

from gateway.errors import MalformedBody, Unsupported
from gateway.inference import InferRequest, split_bytes
from gateway.protocols.edge import Edge
from gateway.protocols.http import HttpCall, Routes
from gateway.protocols.http_reply import HttpReply, answer
from gateway.protocols.multipart import parse_multipart
from gateway.protocols.oip_json import parse_json
from gateway.protocols.problems import torchserve_object
from gateway.protocols.torchserve_items import pass_through, payload, read_items, write_answer
from gateway.protocols.torchserve_models import describe, list_models, model_version

PROTOCOL = "torchserve_http"
OCTETS = b"application/octet-stream"
FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 1000
MAX_ESCAPES = 1024 * 1024
"""Of `%41` in a form: each takes 200 ns and 80 bytes to become an `A`. Files are better sent as they are."""
PAGE_SIZE = 100
NOT_ALLOWED = {
    "code": 405,
    "type": "MethodNotAllowedException",
    "message": "Requested method is not allowed, please refer to API document.",
}


NOT_FOUND = {
    "code": 404,
    "type": "ResourceNotFoundException",
    "message": "Requested resource is not found, please refer to API document.",
}
PATHS = ("/predictions", "/explanations", "/ping", "/models", "/api-description")
"""Where these routes begin: what is asked there and is no route is refused in TorchServe's form."""


def routes(edge: Edge) -> list[Route]:
    """Every route of the protocol."""
    torchserve = _TorchServe(edge)
    collected = Routes(edge, PROTOCOL, torchserve_object)
    collected.add("GET", "/ping", torchserve.ping, is_open=True)
    for path in ("/predictions/{model}", "/predictions/{model}/{version}"):
        collected.add("POST,PUT", path, torchserve.predictions, measures=True)
    for path in ("/explanations/{model}", "/explanations/{model}/{version}"):
        collected.add("POST,PUT", path, torchserve.explanations)
    collected.add("GET", "/models", torchserve.models)
    collected.add("POST", "/models", torchserve.not_allowed)
    for path in ("/models/{model}", "/models/{model}/{version}"):
        collected.add("GET", path, torchserve.model)
        collected.add("PUT,DELETE", path, torchserve.not_allowed)
    collected.add("PUT", "/models/{model}/{version}/set-default", torchserve.not_allowed)
    return collected.routes


class _TorchServe:
    """The handlers."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def ping(self, _: HttpCall) -> HttpReply:
        """Whether to send requests: once every model could be answered, then while any can; else a 500."""
        return _json({"status": "Healthy"}) if self._edge.ready else _json({"status": "Unhealthy"}, 500)

    async def models(self, call: HttpCall) -> HttpReply:
        """The models, `limit` at a time from `next_page_token` on."""
        query = parse_qs(call.query.decode("latin-1"))
        limit, start = _number(query, "limit", PAGE_SIZE), _number(query, "next_page_token", 0)
        limit = limit if 0 <= limit <= PAGE_SIZE else PAGE_SIZE
        return _json(list_models(self._edge.catalog, limit, max(start, 0)))

    async def model(self, call: HttpCall) -> HttpReply:
        """One version of a model, its default one, or `all` of them: how it is served, and its workers."""
        return _json(describe(self._edge, call.path["model"], call.path.get("version", "")))

    async def not_allowed(self, _: HttpCall) -> HttpReply:
        """Changing models over the network, which the gateway does not allow."""
        return _json(NOT_ALLOWED, 405)

    async def explanations(self, _: HttpCall) -> HttpReply:
        """What a model would give as its reasons, which Inferway does not serve."""
        raise Unsupported("Inferway has no explanations, only predictions")

    async def predictions(self, call: HttpCall) -> HttpReply:
        """One inference: a file, a form with one, or JSON; `{label: probability}` comes back."""
        model, version = call.path["model"], call.path.get("version", "")
        catalog = self._edge.catalog
        deadline = self._edge.deadline(model, call.timeout_seconds, arrived=call.arrived)
        if model in catalog.passthrough:
            inputs = pass_through(_fields(call))
            request = InferRequest(model, inputs, deadline, version=version, priority=call.priority)
            response = await self._edge.infer(request)
            call.measurement.answered(response)
            (prediction,) = split_bytes(response.outputs[0])
            return answer(response, prediction, OCTETS)
        contract, transform = catalog.contract(model), catalog.transforms.get(model)
        asked = model_version(contract, version)
        catalog.version(model, version=asked)  # one that there is not ends here
        reading = read_items(contract, transform, _content(call), self._edge.decoding)
        inputs, many = await self._edge.by(deadline, reading, "the payload was decoded")
        request = InferRequest(
            model=model,
            inputs=inputs,
            deadline=deadline,
            version=asked,
            variant=call.variant,
            priority=call.priority,
            sticky=call.sticky,
        )
        response = await self._edge.infer(request)
        call.measurement.answered(response)
        return answer(response, write_answer(contract, transform, response, many=many))


def _content(call: HttpCall) -> Any:
    """The payload of a request to a model with a contract: parsed JSON, or a file's bytes."""
    kind = _media_type(call)
    if kind == "application/json":
        return parse_json(call.body)
    if kind == FORM and not call.body.startswith((b"data=", b"body=")):
        return call.body  # `curl --data-binary @file` calls whatever it sends a form
    return payload(_fields(call))


def _fields(call: HttpCall) -> dict[str, bytes]:
    """The body as TorchServe's handlers see it: the fields of a form, else all of it under `body`."""
    kind = _media_type(call)
    if kind == "multipart/form-data":
        return parse_multipart(call.body, call.header(b"content-type"))
    return _parse_form(call.body) if kind == FORM else {"body": call.body}


def _parse_form(body: bytes) -> dict[str, bytes]:
    if (escapes := body.count(b"%")) > MAX_ESCAPES:
        raise MalformedBody(f"the form: expected at most {MAX_ESCAPES} escaped bytes, got {escapes}")
    try:
        pairs = parse_qsl(body.decode("latin-1"), encoding="latin-1", max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise MalformedBody(f"the form: expected at most {MAX_FIELDS} fields, got more") from error
    return {name: value.encode("latin-1") for name, value in pairs}


def _media_type(call: HttpCall) -> str:
    return call.header(b"content-type").partition(";")[0].strip().lower()


def _number(query: dict[str, list[str]], name: str, default: int) -> int:
    """A number of the query; TorchServe takes what is none for absent."""
    text = query.get(name, [""])[0]
    return int(text) if re.fullmatch("-?[0-9]{1,9}", text) else default


def _json(content: Any, status: int = 200) -> HttpReply:
    return HttpReply(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE), status)
