"""A real Redis cluster of three masters, for the tests."""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redis import Redis

from services import redis
from services.launch import Launch, LaunchError, Running, free_port
from tests.certificates import Certificates

MASTERS = 3
SLOTS = 16384
READY_SECONDS = 30.0


@dataclass(slots=True)
class StartedCluster:
    """A running cluster.

    Attributes:
        masters: their processes.
        ports: of the masters.
        url: of the first one.
        clients: one for each master, that asks it alone.
    """

    masters: list[Running]
    ports: Sequence[int]
    url: str
    clients: Sequence[Any]

    def start_again(self, number: int) -> None:
        """Start a master that was killed, with the slots that it had."""
        self.masters[number] = Running(self.masters[number].launch).wait_ready()
        self.wait_well()

    def wait_well(self) -> None:
        """Wait until every master knows every other and has heard of every slot."""
        give_up = time.monotonic() + READY_SECONDS
        while not all(_is_well(client) for client in self.clients):
            if time.monotonic() > give_up:
                raise LaunchError("the Redis cluster did not come together")
            time.sleep(0.05)


@contextmanager
def running_redis_cluster(folder: Path, tls: Certificates | None = None) -> Iterator[StartedCluster]:
    """Three masters with a third of the slots each; without one, the others go on with theirs."""
    launches = [_launch(folder / str(number), tls) for number in range(MASTERS)]
    ports = [int(launch.addresses["port"]) for launch in launches]
    urls = [f"{'rediss' if tls else 'redis'}://127.0.0.1:{port}/0" for port in ports]
    more = {"ssl_ca_certs": str(tls.ca)} if tls else {}
    clients: list[Any] = [Redis.from_url(url, **more) for url in urls]
    cluster = StartedCluster([], ports, urls[0], clients)
    try:
        cluster.masters.extend(map(Running, launches))
        for number, (master, client) in enumerate(zip(cluster.masters, clients, strict=True)):
            master.wait_ready()
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            bounds = (SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS - 1)
            client.execute_command("CLUSTER ADDSLOTSRANGE", *bounds)
        for launch in launches[1:]:
            there = ("127.0.0.1", launch.addresses["port"], launch.addresses["bus"])
            clients[0].execute_command("CLUSTER MEET", *there)
        cluster.wait_well()
        yield cluster
    finally:
        for client in clients:
            client.close()
        for master in cluster.masters:
            master.stop()


def _launch(folder: Path, tls: Certificates | None) -> Launch:
    port, bus_port = free_port(), free_port()
    plain = redis.launch(run_dir=folder, port=port)
    options = {
        "cluster-enabled": "yes",
        "cluster-port": str(bus_port),
        "cluster-node-timeout": "1000",
        "cluster-require-full-coverage": "no",
    }
    if tls:
        options |= {
            "tls-port": str(port),
            "port": "0",
            "tls-cluster": "yes",
            "tls-auth-clients": "no",
            "tls-cert-file": str(tls.certificate),
            "tls-key-file": str(tls.key),
            "tls-ca-cert-file": str(tls.ca),
        }
    argv = [*plain.argv, *(word for name, value in options.items() for word in (f"--{name}", value))]
    addresses = {"port": str(port), "bus": str(bus_port)}
    return replace(plain, argv=argv, is_ready=lambda: _listens(port), addresses=addresses)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_well(client: Any) -> bool:
    info: dict[str, str] = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_slots_ok"] == str(SLOTS)
