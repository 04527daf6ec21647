"""The ports that several processes listen on together, claimed before any of them starts.

HTTP: one socket, bound here and inherited. Whoever is free accepts, so that a process that hangs or dies
takes no connection with it that it has not accepted (uvicorn's and gunicorn's workers do the same;
`gateway/supervisor/shared_listener.py` sees to it that each gets its share).

gRPC: each process makes a socket, and they share the port by SO_REUSEPORT. That option would let a second
gateway of the same user take half of the connections without a word. So the port is bound without it first,
which fails where anybody listens, and only then is shared. The socket is kept and never listens: the port
stays ours while a process is started again, and port 0 is one number for all.
"""

import socket

from gateway.server import bind, port_taken
from gateway.settings import ServerSettings


def claim_http(settings: ServerSettings) -> socket.socket:
    """The socket of the HTTP port, for the processes to inherit; it does not listen yet.

    Raises:
        ConfigurationError: the port is taken.
    """
    return bind(settings.host, settings.http_port, "http_port")


def claim_grpc(settings: ServerSettings) -> socket.socket:
    """A socket that keeps the gRPC port for processes of this user that share it.

    Raises:
        ConfigurationError: the port is taken.
    """
    claim = bind(settings.host, settings.grpc_port, "grpc_port")
    # Linux compares the options of the sockets at each bind, so it counts from here on (socket(7)).
    claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return claim


def claim_admin(settings: ServerSettings) -> socket.socket:
    """The supervisor's own; it listens at once, so that a second gateway fails at its start.

    Raises:
        ConfigurationError: the port is taken.
    """
    admin = bind(settings.admin_host, settings.admin_port, "admin_port")
    try:
        admin.listen()
    except OSError as error:  # two that were bound at the same time: the later one to listen fails
        admin.close()
        raise port_taken(settings.admin_host, settings.admin_port, "admin_port", str(error)) from error
    return admin
