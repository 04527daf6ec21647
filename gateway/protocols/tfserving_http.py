"""TensorFlow Serving's REST, version 1: https://www.tensorflow.org/tfx/serving/api_rest.

`:predict` in the row and the columnar form, status and metadata, each by version, by label or by neither,
with the server's codes and `{"error": ...}`. Every model has one signature, `serving_default`. Without a
version the model's default version answers, which its contract sets (the server: the highest). `GET
.../labels/L` tells of the label's version (the server: of all).
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.routing import Route

from gateway.errors import InvalidRequest, MalformedBody, Unsupported
from gateway.inference import InferRequest
from gateway.protocols.edge import Edge
from gateway.protocols.http import HttpCall, Routes
from gateway.protocols.http_reply import HttpReply, answer
from gateway.protocols.oip_fields import INT64_LIMIT, shown
from gateway.protocols.oip_json import parse_json
from gateway.protocols.problems import error_object
from gateway.protocols.tfserving_models import (
    SIGNATURE_FIELD,
    check_signature,
    check_spec,
    model_status,
    signatures,
    version_asked,
)
from gateway.protocols.tfserving_reply import reply_body
from gateway.protocols.tfserving_request import read_inputs

PROTOCOL = "tfserving_http"
MAX_DIGITS = 19
"""Of a number below INT64_LIMIT; Python refuses to read one of thousands."""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def routes(edge: Edge) -> list[Route]:
    """Every route of the protocol."""
    tfserving = _TFServing(edge)
    collected = Routes(edge, PROTOCOL, error_object)
    collected.add("GET", "/v1/models", tfserving.no_model)
    model = "/v1/models/{model}"
    for path in (f"{model}/versions/{{version}}", f"{model}/labels/{{label}}", model):
        collected.add("POST", f"{path}:predict", tfserving.predict, measures=True)
        for verb in ("classify", "regress"):
            collected.add("POST", f"{path}:{verb}", tfserving.unsupported)
        collected.add("GET", f"{path}/metadata", tfserving.metadata)
        collected.add("GET", path, tfserving.status)
    for method in METHODS:
        collected.add(method, "/v1/{rest:path}", _malformed(method))
    return collected.routes


class _TFServing:
    """The handlers."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def predict(self, call: HttpCall) -> HttpReply:
        """One inference: `instances` or `inputs` in, `predictions` or `outputs` out."""
        model, version, label = _spec(call, "POST", ":predict")
        content = _parse(call.body)
        check_signature(_signature_name(content))
        check_spec(self._edge.catalog, model, version=version, label=label)
        inputs, rows = read_inputs(content, self._edge.catalog.contract(model))
        request = InferRequest(
            model=model,
            version=version,
            label=label,
            variant=call.variant,
            sticky=call.sticky,
            inputs=inputs,
            deadline=self._edge.deadline(model, call.timeout_seconds, arrived=call.arrived),
            priority=call.priority,
        )
        response = await self._edge.infer(request)
        call.measurement.answered(response)
        return answer(response, reply_body(response.outputs, rows=rows))

    async def status(self, call: HttpCall) -> HttpReply:
        """The state of a version, or of all versions of a model."""
        model, version, label = _spec(call, "GET")
        return _json(_as_dict(model_status(self._edge, model, version=version, label=label)))

    async def metadata(self, call: HttpCall) -> HttpReply:
        """A model's signature: its inputs and outputs."""
        model, version, label = _spec(call, "GET", "/metadata")
        concrete = check_spec(self._edge.catalog, model, version=version, label=label)
        signature_def = _as_dict(signatures(self._edge.catalog.contract(model)))
        for signature in signature_def["signature_def"].values():
            signature["defaults"] = {}
        model_spec = {"name": model, "signature_name": "", "version": concrete}
        return _json({"model_spec": model_spec, "metadata": {SIGNATURE_FIELD: signature_def}})

    async def unsupported(self, _: HttpCall) -> HttpReply:
        """`:classify` and `:regress`, which Inferway does not serve."""
        raise Unsupported("Inferway serves :predict; :classify and :regress are not served")

    async def no_model(self, _: HttpCall) -> HttpReply:
        """Refused, as the server refuses it: there is no list of models."""
        raise InvalidRequest("Missing model name in request.")


def _spec(call: HttpCall, method: str, after: str = "") -> tuple[str, str, str]:
    """Model, version and label of a path.

    Raises:
        MalformedBody: it is not a path of the protocol.
        InvalidRequest: a version that no 64-bit number holds.
    """
    model, version, label = (call.path.get(key, "") for key in ("model", "version", "label"))
    if ":" in model or ":" in label or (version and not (version.isascii() and version.isdigit())):
        place = f"/versions/{version}" if version else f"/labels/{label}" if label else ""
        raise MalformedBody(f"Malformed request: {method} /v1/models/{model}{place}{after}")
    if len(version) > MAX_DIGITS or int(version or 0) >= INT64_LIMIT:
        raise InvalidRequest(f"Failed to convert version: {version} to numeric.")
    return model, version_asked(int(version or 0)), label


def _malformed(method: str) -> Callable[[HttpCall], Coroutine[Any, Any, HttpReply]]:
    async def malformed(call: HttpCall) -> HttpReply:
        """Refused: no path of the protocol."""
        raise MalformedBody(f"Malformed request: {method} /v1/{call.path['rest']}")

    return malformed


def _parse(body: bytes) -> Mapping[str, Any]:
    if not body:
        raise MalformedBody("JSON Parse error: The document is empty")
    try:
        content = parse_json(body)
    except MalformedBody as error:
        raise MalformedBody(f"JSON Parse error: {error}") from error
    if not isinstance(content, dict):
        raise MalformedBody(f"JSON Value: {shown(content)} Is not object")
    return content


def _signature_name(content: Mapping[str, Any]) -> str:
    name = content.get("signature_name", "")
    if not isinstance(name, str):
        raise MalformedBody(
            f"JSON Value: {shown(name)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def _as_dict(message: Message) -> dict[str, Any]:
    """As the server writes a message: fields by their own names, none left out, 64-bit numbers as text."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _json(content: object) -> HttpReply:
    return HttpReply(orjson.dumps(content, option=orjson.OPT_INDENT_2))
