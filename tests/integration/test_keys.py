"""API keys at a real gateway, over all six protocols: who is let in, and how the others are told."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.protocols.problems import TORCHSERVE_BAD_TOKEN
from tests import callers
from tests.callers import EVERY, HTTP, OIP, TORCHSERVE, Answered, Ask, over_grpc, over_http
from tests.integration.keys_rig import SOON, bearer, new_key, until_known
from tests.serving import EMBEDDED, MODEL, StartedGateway, running_gateway

WRONG = "ifw_0123456789ab_" + "A" * 43
every_protocol = pytest.mark.parametrize("ask", EVERY, ids=lambda ask: ask.__name__)
BIG = 60 * 1024 * 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, str]:
    file = folder / "keys.yaml"
    return {
        "right": new_key(file, "right"),
        "other": new_key(file, "other", "--model", "another_model"),
        "expired": new_key(file, "expired", "--expires", "2020-01-01"),
        "slow": new_key(file, "slow", "--per-second", "0.01", "--burst", "1"),
        "daily": new_key(file, "daily", "--per-day", "2"),
    }


@pytest.fixture(scope="module")
def gateway(folder: Path, keys: dict[str, str]) -> Iterator[StartedGateway]:
    assert keys
    settings = {"endpoints": {"embedded": EMBEDDED}, "keys": {"file": "keys.yaml"}}
    with running_gateway(folder, settings) as started:
        yield started


def is_refused(answered: Answered, http_status: int, grpc_status: str) -> bool:
    return answered.status in {http_status, grpc_status}


@every_protocol
def test_without_a_key_nobody_is_let_in_and_is_told_in_the_protocols_own_form(
    gateway: StartedGateway, ask: Ask
) -> None:
    answered = ask(gateway, {})
    assert is_refused(answered, 401, "UNAUTHENTICATED")
    assert answered.headers["www-authenticate"] == 'Bearer realm="inferway"'
    check_form(ask, answered, "an API key is needed: ")


@every_protocol
@pytest.mark.parametrize("key", [WRONG, "secret", "ifw_"], ids=["unknown", "no_key", "short"])
def test_a_wrong_key_is_refused(gateway: StartedGateway, ask: Ask, key: str) -> None:
    answered = ask(gateway, bearer(key))
    assert is_refused(answered, 401, "UNAUTHENTICATED")
    assert answered.headers["www-authenticate"].endswith('error="invalid_token"')
    check_form(ask, answered, "the API key is not valid")


@pytest.mark.parametrize("ask", HTTP, ids=lambda ask: ask.__name__)
def test_a_key_that_is_no_ascii_is_refused(gateway: StartedGateway, ask: Ask) -> None:
    assert ask(gateway, bearer("ifw_0123456789ab_" + "é" * 43)).status == 401


def check_form(ask: Ask, answered: Answered, text: str) -> None:
    if ask is callers.torchserve_http:
        body = {"code": 401, "type": "InvalidKeyException", "message": TORCHSERVE_BAD_TOKEN}
        assert json.loads(answered.text) == body
    elif ask is callers.torchserve_grpc:
        assert answered.text == TORCHSERVE_BAD_TOKEN
    elif ask in HTTP:
        assert json.loads(answered.text)["error"].startswith(text)
    else:
        assert answered.text.startswith(text)


@every_protocol
def test_a_secret_of_another_key_and_an_expired_key_are_refused(
    gateway: StartedGateway, keys: dict[str, str], ask: Ask
) -> None:
    crossed = keys["right"][:17] + keys["other"][17:]
    for key in (crossed, keys["expired"]):
        assert is_refused(ask(gateway, bearer(key)), 401, "UNAUTHENTICATED")


@every_protocol
def test_the_right_key_is_let_in_by_either_header(
    gateway: StartedGateway, keys: dict[str, str], ask: Ask
) -> None:
    for headers in (bearer(keys["right"]), {"X-API-Key": keys["right"]}):
        assert ask(gateway, headers).status in {200, "OK"}


@every_protocol
def test_a_key_for_another_model_is_refused_before_a_cached_answer(
    gateway: StartedGateway, keys: dict[str, str], ask: Ask
) -> None:
    assert ask(gateway, bearer(keys["right"])).status in {200, "OK"}
    answered = ask(gateway, bearer(keys["other"]))
    assert is_refused(answered, 403, "PERMISSION_DENIED")
    assert f"this key may not call model '{MODEL}'" in answered.text


@every_protocol
@pytest.mark.parametrize("name", ["slow", "daily"])
def test_over_its_limit_a_key_is_told_when_to_come_back(
    gateway: StartedGateway, keys: dict[str, str], ask: Ask, name: str
) -> None:
    for _ in range(2):  # what is left of two, whichever protocol came first
        ask(gateway, bearer(keys[name]))
    answered = ask(gateway, bearer(keys[name]))
    assert is_refused(answered, 429, "RESOURCE_EXHAUSTED")
    assert 1 <= int(answered.headers["retry-after"]) <= (100 if name == "slow" else 86_400)
    assert "this key is over the " in answered.text
    if ask is callers.torchserve_http:
        assert json.loads(answered.text)["type"] == "TooManyRequestsException"


def test_refusals_are_counted_by_reason_and_measured(gateway: StartedGateway) -> None:
    before = gateway.metric("gateway_refused_requests_total", reason="no_key")
    for ask in EVERY:
        ask(gateway, {})
    assert gateway.metric("gateway_refused_requests_total", reason="no_key") == before + len(EVERY)
    name = "gateway_request_duration_seconds_count"
    for ask in EVERY:
        assert gateway.metric(name, outcome="unauthenticated", protocol=ask.__name__) >= 1


def test_what_each_key_asks_is_counted_by_its_name(gateway: StartedGateway, keys: dict[str, str]) -> None:
    def count(name: str, result: str) -> float:
        return gateway.metric("gateway_key_requests_total", key=name, result=result)

    before = count("right", "let_in"), count("other", "model"), count("daily", "quota")
    for _ in range(2):
        callers.oip_http(gateway, bearer(keys["daily"]))
    for name in ("right", "other", "daily"):
        callers.oip_http(gateway, bearer(keys[name]))
        callers.oip_grpc(gateway, bearer(keys[name]))
    after = count("right", "let_in"), count("other", "model"), count("daily", "quota")
    assert after[:2] == (before[0] + 2, before[1] + 2)
    assert after[2] >= before[2] + 2
    assert not count("expired", "")


@pytest.mark.parametrize("head", [b"expect: 100-continue\r\n", b""], ids=["asks_first", "sends"])
@pytest.mark.parametrize(
    ("path", "limited"),
    [
        (f"/v2/models/{MODEL}/infer", ""),
        (f"/predictions/{MODEL}", ""),
        (f"/v1/models/{MODEL}:predict", "daily"),
    ],
)
def test_over_http_a_refusal_comes_before_the_body(
    gateway: StartedGateway, keys: dict[str, str], head: bytes, path: str, limited: str
) -> None:
    if limited:
        for _ in range(2):
            callers.oip_http(gateway, bearer(keys[limited]))
        head += f"x-api-key: {keys[limited]}\r\n".encode()
    host, port = gateway.http.split(":")
    with socket.create_connection((host, int(port)), timeout=SOON) as caller:
        caller.sendall(
            b"POST %b HTTP/1.1\r\nhost: a\r\n%bcontent-length: %d\r\n\r\n" % (path.encode(), head, BIG)
        )
        status = caller.recv(4096).partition(b"\r\n")[0]
    assert status.startswith(b"HTTP/1.1 429 " if limited else b"HTTP/1.1 401 ")


@pytest.mark.parametrize("path", [f"{OIP}ModelInfer", f"{TORCHSERVE}Predictions", f"{OIP}ModelStreamInfer"])
def test_over_grpc_a_refusal_comes_before_the_message(gateway: StartedGateway, path: str) -> None:
    memory = "process_resident_memory_bytes"
    over_grpc(gateway.grpc, path)  # what the first call allocates
    before = gateway.metric(memory)
    answers = [over_grpc(gateway.grpc, path, bytes(BIG)) for _ in range(3)]
    assert {answered.status for answered in answers} == {"UNAUTHENTICATED"}
    assert gateway.metric(memory) - before < BIG / 2


def test_a_grpc_refusal_needs_no_message_at_all(gateway: StartedGateway) -> None:
    def nothing() -> Iterator[bytes]:
        time.sleep(SOON)
        yield b""

    started = time.monotonic()
    with grpc.insecure_channel(gateway.grpc) as channel:
        call: Any = channel.stream_unary(f"{OIP}ModelInfer")
        with pytest.raises(grpc.RpcError) as refused:
            call(nothing(), timeout=SOON)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert time.monotonic() - started < SOON / 2


def test_a_key_is_taken_without_a_restart_and_refused_once_it_is_disabled(
    folder: Path, gateway: StartedGateway
) -> None:
    file = folder / "keys.yaml"
    key = new_key(file, "late")
    until_known(gateway, key)
    file.write_text(file.read_text().replace("name: late\n", "name: late\n    disabled: true\n"))
    give_up = time.monotonic() + SOON
    while (answered := over_http(gateway.http, "GET", "/v2", headers=bearer(key))).status == 200:
        assert time.monotonic() < give_up
        time.sleep(0.1)
    assert json.loads(answered.text) == {"error": "the API key is disabled"}


def test_a_broken_key_file_locks_nobody_out(
    folder: Path, gateway: StartedGateway, keys: dict[str, str]
) -> None:
    file = folder / "keys.yaml"
    whole = file.read_text()
    file.write_text("keys: [")
    time.sleep(2.5)  # longer than it takes to be seen
    try:
        assert callers.oip_http(gateway, bearer(keys["right"])).status == 200
        assert "key_file_unreadable" in gateway.running.launch.log.read_text()
    finally:
        file.write_text(whole)


def test_health_is_open_and_all_else_is_closed(gateway: StartedGateway) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/ping", "/openapi.json", "/api-description"):
        assert over_http(gateway.http, "GET", path).status == 200, path
    for path in ("/v2", f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/ready", f"/v1/models/{MODEL}", "/models"):
        assert over_http(gateway.http, "GET", path).status == 401, path
    is_open = ("/grpc.health.v1.Health/Check", f"{OIP}ServerLive", f"{OIP}ServerReady", f"{TORCHSERVE}Ping")
    for path in is_open:
        assert over_grpc(gateway.grpc, path).status == "OK", path
    closed = (
        f"{OIP}ServerMetadata",
        f"{OIP}RepositoryIndex",
        "/tensorflow.serving.ModelService/GetModelStatus",
    )
    for path in closed:
        assert over_grpc(gateway.grpc, path).status == "UNAUTHENTICATED", path
    assert over_grpc(gateway.grpc, f"{OIP}NoSuchMethod").status == "UNIMPLEMENTED"


def test_without_keys_in_the_settings_everybody_may_ask(embedded_gateway: StartedGateway) -> None:
    for ask in EVERY:
        assert ask(embedded_gateway, {}).status in {200, "OK"}
