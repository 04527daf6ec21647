"""Puts the plain ASGI routes into the app's OpenAPI document."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

INDEX = {
    "gateway": "Inferway",
    "every_route": "/openapi.json",
    "open_inference_protocol": "/v2",
    "tf_serving": "/v1/models/{model}",
    "torchserve": "/models",
    "metrics_and_status": "/metrics and /status on the admin port",
}


def document(app: FastAPI, routes: Sequence[Route]) -> None:
    """Make `/openapi.json`, and TorchServe's two paths, show `routes`, each with its handler's docstring."""

    async def describe(_: Request) -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.get("/")
    async def index() -> dict[str, str]:
        """Where to go from here."""
        return INDEX

    app.router.add_route("/", describe, methods=["OPTIONS"])
    app.router.add_route("/api-description", describe, methods=["GET"])

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            for route in routes:
                schema["paths"].setdefault(route.path_format, {}).update(_operations(route))
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend the schema


def _operations(route: Route) -> dict[str, Any]:
    summary, _, description = (route.endpoint.__doc__ or "").strip().partition("\n")
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in route.param_convertors
    ]
    body: dict[str, Any] = {
        "requestBody": {"content": {"application/octet-stream": {}, "application/json": {}}}
    }
    return {
        method.lower(): {
            "summary": summary,
            "description": " ".join(description.split()),
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
            **(body if method in {"POST", "PUT"} else {}),
        }
        for method in sorted(route.methods or ())
        if method != "HEAD"
    }
