"""A socket whose `recv` gives all the bytes that were asked for, as mosec 0.9.8 takes for granted."""

import socket


class WholeReads(socket.socket):
    """Takes over a connected or fresh stream socket, which is closed for whoever had it.

    `recv` of a stream gives what has come, at most so many bytes. mosec's worker reads each field of a batch
    by one such call, and a batch of 32 JSON requests of 15 KB goes through its Unix socket in pieces. Sooner
    or later a field of four bytes lies across two of them: the worker reads a part of it, closes its socket
    and ends, and mosec with it, since no other worker is left.
    """

    def __init__(self, taken: socket.socket) -> None:
        timeout = taken.gettimeout()
        super().__init__(fileno=taken.detach())
        self.settimeout(timeout)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """All `size` bytes; fewer only at the end of the stream.

        Raises:
            TimeoutError: nothing came for the socket's timeout.
        """
        received = bytearray()
        while len(received) < size and (part := super().recv(size - len(received), flags)):
            received += part
        return bytes(received)
