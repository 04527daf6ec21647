"""The supervisor's admin port is nobody else's, though the kernel would let two be bound."""

import socket

import pytest

from gateway.configuration import ConfigurationError
from gateway.settings import ServerSettings
from gateway.supervisor.supervisor import claim_admin

SETTINGS = ServerSettings(admin_port=0)


def test_a_port_that_is_taken_is_told_with_the_setting_that_moves_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        mend = f"cannot listen on 127.0.0.1:{port}: .*; free it, or set INFERWAY_SERVER__ADMIN_PORT"
        with pytest.raises(ConfigurationError, match=mend):
            claim_admin(SETTINGS.model_copy(update={"admin_port": port}))


def test_the_port_stays_claimed_while_no_process_listens() -> None:
    with claim_admin(SETTINGS) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigurationError, match="INFERWAY_SERVER__ADMIN_PORT"):
            claim_admin(SETTINGS.model_copy(update={"admin_port": port}))
