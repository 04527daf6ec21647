"""Ports for servers that are started on one machine: each once, and none that a client's connection takes."""

import socket
from pathlib import Path

from services import launch
from services.launch import free_port


def test_no_port_is_given_twice() -> None:
    ports = [free_port() for _ in range(2_000)]
    assert len(set(ports)) == len(ports)


def test_no_port_is_one_that_the_kernel_gives_to_clients() -> None:
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert free_port() < first_of_clients


def test_a_port_that_is_taken_is_passed_over() -> None:
    taken = free_port()
    following = launch.PORTS[(taken + 1 - launch.PORTS.start) % len(launch.PORTS)]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", following))
        assert free_port() not in {taken, following}
