"""The plain ASGI routes stand in the app's OpenAPI document."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from gateway.protocols.http import HttpCall, Routes
from gateway.protocols.http_reply import HttpReply
from gateway.protocols.openapi import document
from gateway.protocols.problems import error_object
from tests.fakes import FakeInfer, fake_edge


async def handler(call: HttpCall) -> HttpReply:
    """One inference.

    In the words of the protocol, which
    take two lines.
    """
    return HttpReply(call.body)


@pytest.fixture
def paths() -> Any:
    app = FastAPI(title="Test")

    @app.get("/plain")
    async def plain() -> None:
        """FastAPI's own."""

    routes = Routes(fake_edge(FakeInfer()), "test", error_object)
    routes.add("GET", "/v1/models/{model:str}/versions/{version}", handler)
    routes.add("POST", "/v1/models/{model:str}:predict", handler)
    routes.add("POST", "/v2/models/{model}/infer", handler)
    routes.add("GET", "/v2/models/{model}/infer", handler)
    routes.add("POST,PUT", "/predictions/{name:path}", handler)
    app.router.routes.extend(routes.routes)
    document(app, routes.routes)
    return app.openapi()["paths"]


def test_every_route_is_there_under_its_path_without_converters(paths: Any) -> None:
    assert set(paths) == {
        "/",
        "/plain",
        "/v1/models/{model}/versions/{version}",
        "/v1/models/{model}:predict",
        "/v2/models/{model}/infer",
        "/predictions/{name}",
    }


def test_methods_of_one_path_stand_together(paths: Any) -> None:
    assert set(paths["/v2/models/{model}/infer"]) == {"get", "post"}
    assert set(paths["/predictions/{name}"]) == {"post", "put"}


def test_the_handlers_words_describe_its_route(paths: Any) -> None:
    operation = paths["/v2/models/{model}/infer"]["post"]
    assert operation["summary"] == "One inference."
    assert operation["description"] == "In the words of the protocol, which take two lines."


def test_every_parameter_of_the_path_is_described(paths: Any) -> None:
    parameters = paths["/v1/models/{model}/versions/{version}"]["get"]["parameters"]
    assert [(p["name"], p["in"], p["required"]) for p in parameters] == [
        ("model", "path", True),
        ("version", "path", True),
    ]


def test_only_what_takes_a_body_has_one(paths: Any) -> None:
    path = paths["/v2/models/{model}/infer"]
    assert "requestBody" in path["post"]
    assert "requestBody" not in path["get"]


async def test_the_root_names_where_each_protocol_begins_and_is_in_the_document(paths: Any) -> None:
    app = FastAPI(title="Test")
    document(app, [])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        reply = await client.get("/")
    assert (reply.status_code, reply.json()["every_route"]) == (200, "/openapi.json")
    assert "get" in paths["/"]


@pytest.mark.parametrize(("method", "path"), [("OPTIONS", "/"), ("GET", "/api-description")])
async def test_the_document_is_also_where_torchserves_clients_look(method: str, path: str) -> None:
    app = FastAPI(title="Test")
    document(app, [])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        reply = await client.request(method, path)
    assert (reply.status_code, reply.json()["info"]["title"]) == (200, "Test")
