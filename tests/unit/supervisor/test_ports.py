"""Ports that several processes share are nobody else's, though the kernel would let others share them."""

import socket
from collections.abc import Callable

import pytest

from gateway.configuration import ConfigurationError
from gateway.settings import ServerSettings
from gateway.supervisor.ports import claim_admin, claim_grpc, claim_http

SETTINGS = ServerSettings(http_port=0, grpc_port=0, admin_port=0)


def listening(port: int) -> socket.socket:
    """What gRPC makes in each process."""
    sharing = socket.socket()
    sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sharing.bind(("127.0.0.1", port))
    sharing.listen()
    return sharing


def test_processes_share_the_claimed_grpc_port_and_a_second_gateway_is_refused() -> None:
    with claim_grpc(SETTINGS) as claim:
        port = claim.getsockname()[1]
        with listening(port), listening(port):
            mend = f"cannot listen on 127.0.0.1:{port}: .*; free it, or set INFERWAY_SERVER__GRPC_PORT"
            with pytest.raises(ConfigurationError, match=mend):
                claim_grpc(SETTINGS.model_copy(update={"grpc_port": port}))


@pytest.mark.parametrize(
    ("claim", "setting"), [(claim_http, "http_port"), (claim_grpc, "grpc_port"), (claim_admin, "admin_port")]
)
def test_a_port_that_is_taken_is_told_with_the_setting_that_moves_it(
    claim: Callable[[ServerSettings], socket.socket], setting: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = SETTINGS.model_copy(update={setting: taken.getsockname()[1]})
        with pytest.raises(ConfigurationError, match=f"INFERWAY_SERVER__{setting.upper()}"):
            claim(settings)


def test_the_port_stays_claimed_while_no_process_listens() -> None:
    with claim_admin(SETTINGS) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigurationError, match="INFERWAY_SERVER__ADMIN_PORT"):
            claim_admin(SETTINGS.model_copy(update={"admin_port": port}))
