"""The admin port: metrics, health, and the operator's API. docs/admin.md describes it."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.routing import Route

from gateway import __version__
from gateway.admin.body_limit import BodyLimit
from gateway.admin.operations import NotDone, Operations
from gateway.admin.overrides import Change
from gateway.admin.writes import Writes
from gateway.settings import AdminWrites
from gateway.specs import Name, Section, Version


class Weight(Section):
    """The share of the requests that a canary answers."""

    weight: Annotated[float, Field(ge=0, le=1)]


class LabelledVersion(Section):
    """The version that a label stands for."""

    version: Version


def admin_app(operations: Operations, writes: AdminWrites) -> FastAPI:
    """The app of the admin port, which is closed to the outside."""
    app = FastAPI(title="Inferway admin", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit)
    _health(app, operations)
    _reads(app, operations)
    _writes(app, operations, writes)

    @app.exception_handler(NotDone)
    async def refused(_: Request, error: NotDone) -> Response:
        return JSONResponse({"error": str(error)}, error.status)

    @app.exception_handler(HTTPException)
    async def no_such_route(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def not_valid(_: Request, error: RequestValidationError) -> Response:
        problems = [f"{_place(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
        return JSONResponse({"error": "; ".join(problems)}, 422)

    return app


def _health(app: FastAPI, operations: Operations) -> None:
    processes = operations.processes

    @app.get("/metrics")
    async def metrics_page() -> Response:
        """Every metric in Prometheus' text format."""
        return Response(await processes.metrics_page(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/livez")
    async def livez() -> Response:
        """200 while the process can answer at all."""
        return Response("live\n", media_type="text/plain")

    @app.get("/readyz")
    async def readyz() -> Response:
        """200 when a process takes requests (`Edge.ready`), else 503."""
        is_ready = await processes.is_ready()
        return (
            Response("ready\n", media_type="text/plain")
            if is_ready
            else Response("not ready\n", status_code=503, media_type="text/plain")
        )


def _reads(app: FastAPI, operations: Operations) -> None:
    @app.get("/")
    async def index() -> dict[str, list[str]]:
        """What there is to read."""
        routes = [route for route in app.routes if isinstance(route, Route)]
        return {"routes": [route.path for route in routes if "GET" in (route.methods or ())]}

    @app.get("/status")
    async def status() -> dict[str, Any]:
        """Version, processes, canaries and labels."""
        return {
            "version": __version__,
            "ready": await operations.processes.is_ready(),
            "processes": operations.processes.states(),
            "rollouts": await operations.rollouts(),
        }

    @app.get("/pools")
    async def pools() -> dict[str, Any]:
        """Each endpoint of each pool as each process sees it."""
        return {"endpoints": await operations.pools()}

    @app.get("/overrides")
    async def overrides() -> dict[str, Any]:
        """What was changed since the last reload."""
        return {"overrides": await operations.overrides()}


def _writes(app: FastAPI, operations: Operations, writes: AdminWrites) -> None:
    allowed = [Depends(Writes(writes))]

    async def changed(change: Change) -> dict[str, Any]:
        return {**change.to_json(), "processes": await operations.change(change)}

    @app.post("/endpoints/{endpoint:path}/drain", dependencies=allowed)
    async def drain(endpoint: str) -> dict[str, Any]:
        """Send an endpoint (found ones have a `/` in their names) no new requests; those in flight finish."""
        return await changed(Change("drain", endpoint))

    @app.post("/endpoints/{endpoint:path}/undrain", dependencies=allowed)
    async def undrain(endpoint: str) -> dict[str, Any]:
        """Let an endpoint take requests again."""
        return await changed(Change("undrain", endpoint))

    @app.put("/models/{model}/canary", dependencies=allowed)
    async def canary(model: str, wanted: Weight) -> dict[str, Any]:
        """Set the weight of a model's canary."""
        return await changed(Change("weight", model, value=wanted.weight))

    @app.put("/models/{model}/labels/{label}/canary", dependencies=allowed)
    async def canary_of_label(model: str, label: Name, wanted: Weight) -> dict[str, Any]:
        """Set the weight of a label's canary."""
        return await changed(Change("weight", model, label, wanted.weight))

    @app.put("/models/{model}/labels/{label}", dependencies=allowed)
    async def label(model: str, label: Name, wanted: LabelledVersion) -> dict[str, Any]:
        """Let a label stand for a version."""
        return await changed(Change("label", model, label, wanted.version))

    @app.post("/models/{model}/cache/void", dependencies=allowed)
    async def void(model: str) -> dict[str, Any]:
        """Forget every answer of a model."""
        return {"model": model, "dropped": await operations.void(model)}

    @app.post("/reload", dependencies=allowed)
    async def reload() -> dict[str, Any]:
        """Read the configuration again; overrides end."""
        return {"processes": await operations.reload()}


def _place(loc: Sequence[str | int]) -> str:
    """Where something is wrong: a key of the body or a part of the path, or the body as a whole."""
    return ".".join(part for part in loc[1:] if isinstance(part, str)) or "body"
