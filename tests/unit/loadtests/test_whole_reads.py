"""What mosec's worker reads of a batch that comes in parts."""

import socket

import pytest

from loadtests.peers.whole_reads import WholeReads


def pair(timeout_seconds: float = 5.0) -> tuple[WholeReads, socket.socket]:
    """A reader and a writer whose every `send` is a part of its own, as parts of a stream may be."""
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    ours.settimeout(timeout_seconds)
    return WholeReads(ours), theirs


def test_a_field_that_comes_in_parts_is_read_whole() -> None:
    ours, theirs = pair()
    with ours, theirs:
        for part in (b"\0\0", b"\0", b"\x07"):
            theirs.send(part)
        assert ours.recv(4) == b"\0\0\0\x07"


def test_the_end_of_the_stream_ends_a_read() -> None:
    ours, theirs = pair()
    with ours:
        with theirs:
            theirs.send(b"ab")
        assert ours.recv(4) == b"ab"
        assert ours.recv(4) == b""


def test_a_socket_that_was_taken_over_keeps_its_timeout() -> None:
    ours, theirs = pair(0.001)
    with ours, theirs, pytest.raises(TimeoutError):
        ours.recv(2)
