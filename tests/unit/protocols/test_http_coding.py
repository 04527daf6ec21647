"""Which coding a reply gets, and that it holds what it held."""

import gzip
import zlib
from collections.abc import Callable

import pytest

from gateway.protocols.http_coding import COMPRESSED_FROM_BYTES, THREAD_FROM_BYTES, compress, reply_coding

ENOUGH = COMPRESSED_FROM_BYTES


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", ""),
        ("identity", ""),
        ("br", ""),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip", "gzip"),
        ("GZIP;q=0.5 , Deflate ; q=0.8", "deflate"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip;q=0", ""),
        ("*", "gzip"),
        ("*, gzip;q=0", "deflate"),
        ("*;q=0", ""),
        ("identity, gzip;q=0.5", ""),
        ("identity;q=0.5, gzip", "gzip"),
        ("gzip;q=much", ""),
        ("gzip;q=nan", ""),
        ("gzip, deflate, br, zstd", "gzip"),
    ],
)
def test_a_reply_has_the_coding_that_the_caller_likes_best(accept: str, coding: str) -> None:
    assert reply_coding(accept, ENOUGH) == coding


def test_a_small_reply_is_sent_as_it_is() -> None:
    assert reply_coding("gzip", ENOUGH - 1) == ""


@pytest.mark.parametrize(("coding", "expand"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
@pytest.mark.parametrize("size", [ENOUGH, THREAD_FROM_BYTES + 1])
async def test_what_is_compressed_expands_to_what_it_was(
    coding: str, expand: Callable[[bytes], bytes], size: int
) -> None:
    body = (b"0123456789" * size)[:size]
    packed = await compress(body, coding)
    assert expand(packed) == body
    assert len(packed) < size
