"""The admin port: metrics, and whether this process lives and is ready."""

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.metrics import Metrics
from gateway.protocols.edge import Edge


def admin_app(edge: Edge, metrics: Metrics) -> FastAPI:
    """The app of the admin port, which is closed to the outside."""
    app = FastAPI(title="Inferway admin", docs_url=None, redoc_url=None)

    @app.get("/metrics")
    async def metrics_page() -> Response:
        """Every metric in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/livez")
    async def livez() -> Response:
        """200 while the process can answer at all."""
        return Response("live\n", media_type="text/plain")

    @app.get("/readyz")
    async def readyz() -> Response:
        """200 when every model's default version has an endpoint that takes traffic, else 503."""
        return (
            Response("ready\n", media_type="text/plain")
            if edge.ready
            else Response("not ready\n", status_code=503, media_type="text/plain")
        )

    return app
