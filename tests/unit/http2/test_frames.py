"""Frames and header blocks as bytes."""

import pytest
from hpack import Decoder, Encoder

from gateway.http2 import frames
from gateway.http2.frames import HeaderReader, ProtocolError, header, unpadded


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 300, 20_000])
def test_a_header_of_any_length_is_one_literal(size: int) -> None:
    block = header("n" * max(size, 1), "v" * size) + header("after", "it")
    read = Decoder().decode(block, raw=True)
    assert [*read] == [(b"n" * max(size, 1), b"v" * size), (b"after", b"it")]


def test_padding_and_priority_are_no_part_of_what_a_frame_carries() -> None:
    padded, prioritised = frames.PADDED, frames.PRIORITISED
    assert unpadded(0, b"\2abc") == b"\2abc"
    assert unpadded(padded, b"\2abc\0\0") == b"abc"
    assert unpadded(padded, b"\0abc") == b"abc"
    assert unpadded(prioritised, b"12345abc") == b"abc"
    assert unpadded(padded | prioritised, b"\00112345abc\0") == b"abc"
    assert unpadded(padded, b"\2\0\0") == b""


@pytest.mark.parametrize(
    ("flags", "payload"),
    [
        (frames.PADDED, b""),
        (frames.PADDED, b"\1"),
        (frames.PADDED, b"\4abc"),
        (frames.PRIORITISED, b"1234"),
        (frames.PADDED | frames.PRIORITISED, b"\00112345"),
    ],
)
def test_a_frame_shorter_than_its_padding_breaks_the_rules(flags: int, payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpadded(flags, payload)


def test_a_block_of_an_encoder_without_a_table_is_read_and_equal_blocks_once() -> None:
    encoder, reader = Encoder(), HeaderReader()
    encoder.header_table_size = 0
    pairs = [(":status", "200"), ("content-type", "application/grpc"), ("x", "ü")]
    headers = {b":status": b"200", b"content-type": b"application/grpc", b"x": "ü".encode()}
    assert reader.read(encoder.encode(pairs)) == headers
    block = encoder.encode(pairs)
    assert reader.read(block) == headers
    assert reader.read(block) is reader.read(bytes(bytearray(block)))


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # the index 0
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xbe",  # of the table that there is none of
        b"\x00\x7f",
        b"\x00\x05ab",
        b"\x00\x81\xff\x00",  # Huffman code that ends nowhere
        b"\x3f\xe1\x1f",  # a table of 4,096 bytes
        header("long", "x" * frames.MAX_HEADER_LIST_BYTES),
    ],
)
def test_a_block_that_is_none_or_keeps_a_table_or_is_too_large_breaks_the_rules(block: bytes) -> None:
    with pytest.raises(ProtocolError) as broken:
        HeaderReader().read(block)
    assert broken.value.code == frames.COMPRESSION_ERROR


def test_blocks_that_differ_each_time_are_not_kept_for_ever() -> None:
    reader = HeaderReader()
    for number in range(1000):
        assert reader.read(header("date", str(number))) == {b"date": str(number).encode()}
    assert len(reader._known) <= 256
