"""A network namespace whose link loses packets: needs root, and a system that lets it make one."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

NAMESPACE = f"inferway-{os.getpid()}"
OUTSIDE, INSIDE = f"iw{os.getpid()}o", f"iw{os.getpid()}i"
GATEWAY_ADDRESS, ADDRESS = "10.213.77.1", "10.213.77.2"
WITHIN = ("ip", "netns", "exec", NAMESPACE)
"""What runs a program inside."""


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True)


def is_allowed() -> bool:
    """Whether this machine lets us make a namespace and drop packets in it."""
    try:
        with namespace():
            lose(0.5)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@contextmanager
def namespace() -> Iterator[None]:
    """A namespace that has `ADDRESS`, reached from here over a link of its own; gone at the end."""
    _run("ip", "netns", "add", NAMESPACE)
    try:
        _run("ip", "link", "add", OUTSIDE, "type", "veth", "peer", "name", INSIDE, "netns", NAMESPACE)
        _run("ip", "addr", "add", f"{GATEWAY_ADDRESS}/30", "dev", OUTSIDE)
        _run("ip", "link", "set", OUTSIDE, "up")
        _run(*WITHIN, "ip", "addr", "add", f"{ADDRESS}/30", "dev", INSIDE)
        for device in (INSIDE, "lo"):
            _run(*WITHIN, "ip", "link", "set", device, "up")
        yield
    finally:
        subprocess.run(("ip", "link", "del", OUTSIDE), check=False, capture_output=True)
        _run("ip", "netns", "del", NAMESPACE)


def lose(ratio: float) -> None:
    """Drop this share of the packets, in both directions, from now on."""
    for chain in ("INPUT", "OUTPUT"):
        dropped = ("-m", "statistic", "--mode", "random", "--probability", str(ratio), "-j", "DROP")
        _run(*WITHIN, "iptables", "-A", chain, *dropped)


def lose_nothing() -> None:
    """Let every packet through again."""
    _run(*WITHIN, "iptables", "-F")
