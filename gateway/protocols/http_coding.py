"""HTTP's content codings (RFC 9110, 8.4 and 12.5.3): bodies expanded within a limit, replies compressed.

Many clients say by default that they take gzip, also where it does not pay. So the level is the lowest, small
replies stay as they are, and large ones are compressed in a thread: 7 kB of JSON take 60 us at level 1, and
600 kB of random floats 20 ms, in which the event loop would answer nobody else.
"""

import asyncio
import zlib

from gateway.errors import BodyTooLarge, MalformedBody

COMPRESSED_FROM_BYTES = 1024
"""A smaller reply fits one packet either way."""
THREAD_FROM_BYTES = 16 * 1024
LEVEL = 1
_WINDOW_BITS = {"gzip": (31,), "deflate": (15, -15)}
"""zlib's window bits for each coding; `deflate` is zlib's format or, from some clients, a raw stream."""


def reply_coding(accept: str, size_bytes: int) -> str:
    """How to compress a reply: the coding that its caller prefers, gzip among equals.

    Args:
        accept: the request's Accept-Encoding.
        size_bytes: the reply's body.

    Returns:
        `gzip`, `deflate` or, if it is to be sent as it is, nothing.
    """
    if not accept or size_bytes < COMPRESSED_FROM_BYTES:
        return ""
    weights = dict(_weighted(item) for item in accept.lower().split(","))
    other = weights.get("*", 0.0)
    best = max(("gzip", "deflate"), key=lambda coding: weights.get(coding, other))
    weight = weights.get(best, other)
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else ""


def _weighted(item: str) -> tuple[str, float]:
    """A coding and how much it is liked; what cannot be read is not liked at all."""
    coding, _, weight = item.partition(";")
    name, _, value = weight.partition("=")
    if not name.strip():
        return coding.strip(), 1.0
    try:
        return coding.strip(), float(value)
    except ValueError:
        return coding.strip(), 0.0


async def compress(body: bytes, coding: str) -> bytes:
    """The body in one of the codings of `reply_coding`."""
    if len(body) < THREAD_FROM_BYTES:
        return _compress(body, coding)
    return await asyncio.to_thread(_compress, body, coding)


def _compress(body: bytes, coding: str) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _WINDOW_BITS[coding][0])
    return packer.compress(body) + packer.flush()


def expand(body: bytes, encoding: str, limit: int) -> bytes:
    """A compressed body as it was.

    Raises:
        BodyTooLarge: it is over `limit` bytes.
        MalformedBody: the encoding is unknown, or the body is not in it.
    """
    if encoding not in _WINDOW_BITS:
        raise MalformedBody(f"Content-Encoding: expected gzip, deflate or identity, got '{encoding}'")
    reason = ""
    for window_bits in _WINDOW_BITS[encoding]:
        expander = zlib.decompressobj(window_bits)
        try:
            # One byte over the limit is enough to know, and bounds what a bomb can make us hold.
            expanded = expander.decompress(body, limit + 1)
        except zlib.error as error:
            reason = str(error)
            continue
        if len(expanded) > limit:
            raise BodyTooLarge(limit)
        if not expander.eof:
            raise MalformedBody(f"the {encoding} body is cut short")
        if expander.unused_data:
            size = len(expander.unused_data)
            raise MalformedBody(f"{size} bytes follow the end of the {encoding} body")
        return expanded
    raise MalformedBody(f"the body is not valid {encoding}: {reason}")
