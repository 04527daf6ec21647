"""The app of the HTTP port: the routes of every REST protocol, and what is answered where there is none."""

import re
from collections.abc import Collection, Coroutine, Iterable, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway import __version__
from gateway.protocols import oip_http, tfserving_http, torchserve_http
from gateway.protocols.at_once import in_task
from gateway.protocols.edge import Edge
from gateway.protocols.http import HttpEndpoint, identify
from gateway.protocols.openapi import document
from gateway.request_id import HEADER, REQUEST_ID


class HttpApp(FastAPI):
    """FastAPI, which is not asked for the routes that infer: they are looked for before it.

    Its middleware and its router cost more than a hit. They have the same routes, for the document and for
    what is refused (404, 405).
    """

    _infers: Sequence[tuple[Collection[str], re.Pattern[str], HttpEndpoint]] = ()

    def find_first(self, routes: Iterable[Route]) -> None:
        """Look for those of `routes` that infer before all others, in their order."""
        self._infers = [
            (route.methods or (), route.path_regex, route.endpoint)
            for route in routes
            if isinstance(route.endpoint, HttpEndpoint) and route.endpoint.measures
        ]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Answer one request."""
        if scope["type"] == "http":
            method, path = scope["method"], scope["path"]
            for methods, pattern, endpoint in self._infers:
                if method in methods and (found := pattern.match(path)):
                    scope["path_params"] = found.groupdict()
                    return endpoint(scope, receive, send)
        return self._others(scope, receive, send)

    async def _others(self, scope: Scope, receive: Receive, send: Send) -> None:
        await in_task()
        await super().__call__(scope, receive, send)


def http_app(edge: Edge) -> HttpApp:
    """The app, its routes documented in /openapi.json."""
    app = HttpApp(
        title="Inferway",
        summary="One gateway, every inference protocol.",
        version=__version__,
        docs_url=None,  # FastAPI's pages load their scripts from another site; /openapi.json is served
        redoc_url=None,
    )
    routes = [*oip_http.routes(edge), *tfserving_http.routes(edge), *torchserve_http.routes(edge)]
    app.router.routes.extend(routes)
    app.find_first(routes)
    document(app, routes)
    app.add_exception_handler(HTTPException, _no_such_route)
    return app


async def _no_such_route(request: Request, error: Exception) -> Response:
    """A path or a method that no protocol has: in TorchServe's form, or in that of OIP and TF Serving."""
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    identify(request.scope)
    body: object = {"error": error.detail}
    if request.url.path.startswith(torchserve_http.PATHS):
        is_method = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
        body = torchserve_http.NOT_ALLOWED if is_method else torchserve_http.NOT_FOUND
    return JSONResponse(body, error.status_code, {**(error.headers or {}), HEADER: REQUEST_ID.get()})
