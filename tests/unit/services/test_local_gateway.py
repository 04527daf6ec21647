"""A gateway that starts is up once each of its models is ready or never will be; shadows are no models."""

import io
import json
import urllib.request
from typing import Any

import pytest

from services import local_gateway

READY = {"model": "m", "state": "ready", "problem": "", "shadow": False}
LATER, NEVER = ({**READY, "state": "not ready", "problem": problem} for problem in ("", "n.onnx: broken"))


@pytest.mark.parametrize(
    ("endpoints", "up"),
    [
        ([READY], True),
        ([LATER], False),
        ([NEVER], True),
        ([], False),
        ([LATER, {**READY, "shadow": True}], False),
        ([READY, {**LATER, "model": "only a shadow", "shadow": True}], True),
    ],
)
def test_it_is_up_when_waiting_brings_no_model_more(
    monkeypatch: pytest.MonkeyPatch, endpoints: list[dict[str, Any]], up: bool
) -> None:
    page = json.dumps({"endpoints": endpoints}).encode()
    monkeypatch.setattr(local_gateway, "answers", lambda *_: False)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(page))
    assert local_gateway.is_up({"http": "h:1", "admin": "h:2"}) is up
