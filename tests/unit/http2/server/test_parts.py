"""Header blocks and messages, against h2's encoder and in every cut."""

from contextlib import suppress

import pytest
from grpc import StatusCode
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http2.call import CallFailed
from gateway.http2.frames import ProtocolError, header
from gateway.http2.header_blocks import HeaderBlocks
from gateway.http2.heads import Heads
from gateway.http2.messages import Compressed, Messages
from tests.unit.http2.server.server_rig import block, enveloped

TEXT = st.binary(min_size=1, max_size=300)
FIELD = st.tuples(st.sampled_from([b":path", b"te", b"x", b"grpc-timeout"]) | TEXT, TEXT | st.just(b""))
PLENTY = 10**6


@settings(max_examples=150, deadline=None)
@given(
    blocks=st.lists(st.lists(FIELD, max_size=12), max_size=12),
    sizes=st.lists(st.sampled_from([0, 64, 300, 4096]), min_size=12, max_size=12),
    huffman=st.booleans(),
)
def test_header_blocks_mean_what_their_encoder_meant(
    blocks: list[list[tuple[bytes, bytes]]], sizes: list[int], huffman: bool
) -> None:
    encoder, reader = Encoder(), HeaderBlocks()
    for fields, size in zip(blocks, sizes, strict=False):
        encoder.header_table_size = size
        assert reader.read(encoder.encode(fields, huffman=huffman), PLENTY)[0] == fields


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_block_or_an_error_of_the_connection(noise: bytes) -> None:
    reader = HeaderBlocks()
    with suppress(ProtocolError):  # nothing else
        fields, size = reader.read(noise, PLENTY)
        assert size == sum(len(name) + len(value) + 32 for name, value in fields)


def test_equal_blocks_are_read_again_once_the_table_has_changed() -> None:
    heads, newest = Heads(PLENTY), block() + b"\xbe"  # what the table has in its first place
    heads.read(block() + b"\x40" + header("x", "1")[1:])
    first = heads.read(newest)
    assert first.metadata["x"] == "1"
    assert heads.read(newest) is first
    heads.read(block() + b"\x40" + header("y", "2")[1:])
    assert heads.read(newest).metadata["y"] == "2"
    heads.read_trailers(b"\x40" + header("z", "3")[1:])
    assert heads.read(newest).metadata["z"] == "3"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=6), st.data())
def test_messages_are_the_same_however_they_are_cut(messages: list[bytes], drawn: st.DataObject) -> None:
    wire, taken = b"".join(map(enveloped, messages)), Messages(1000)
    while wire:
        cut = drawn.draw(st.integers(1, len(wire)))
        taken.add(wire[:cut])
        wire = wire[cut:]
    assert [taken.take() for _ in messages] == messages
    assert (taken.held_bytes, taken.missing_bytes) == (0, 0)


def test_a_message_says_how_much_it_lacks() -> None:
    messages = Messages(1000)
    lacks = []
    for byte in enveloped(b"abc"):
        messages.add(bytes((byte,)))
        lacks.append(messages.missing_bytes)
    assert lacks == [4, 3, 2, 1, 3, 2, 1, 0]


def test_a_compressed_message_is_known_for_one() -> None:
    messages = Messages(1000)
    messages.add(enveloped(b"abc", 1) + enveloped(b""))
    assert [messages.take(), messages.take()] == [Compressed(b"abc"), b""]


@pytest.mark.parametrize(
    ("wire", "code"),
    [(b"\2\0\0\0\0", StatusCode.INTERNAL), (b"\0\0\0\3\xe9", StatusCode.RESOURCE_EXHAUSTED)],
)
def test_what_is_no_message_or_too_large_fails_by_its_prefix(wire: bytes, code: StatusCode) -> None:
    with pytest.raises(CallFailed) as caught:
        Messages(1000).add(wire)
    assert caught.value.code is code
