"""The app of the HTTP port: the routes of every REST protocol, and what is answered where there is none."""

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gateway import __version__
from gateway.protocols import oip_http, tfserving_http, torchserve_http
from gateway.protocols.edge import Edge
from gateway.protocols.http import identify
from gateway.protocols.openapi import document
from gateway.request_id import HEADER, REQUEST_ID


def http_app(edge: Edge) -> FastAPI:
    """The app, its routes documented in /openapi.json."""
    app = FastAPI(
        title="Inferway",
        summary="One gateway, every inference protocol.",
        version=__version__,
        docs_url=None,  # FastAPI's pages load their scripts from another site; /openapi.json is served
        redoc_url=None,
    )
    routes = [*oip_http.routes(edge), *tfserving_http.routes(edge), *torchserve_http.routes(edge)]
    app.router.routes.extend(routes)
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
