"""Fields that are joined to a serialised message, held against what protobuf itself writes and reads."""

import pytest

from gateway.wire_format import field, joined, map_entry
from services.protocol.open_inference_pb2 import ModelInferRequest
from services.protocol.torchserve_pb2 import PredictionsRequest

LENGTHS = [0, 1, 127, 128, 16_383, 16_384, 2**21]
"""On both sides of each length that takes one more byte to say."""


@pytest.mark.parametrize("length", LENGTHS)
def test_a_field_is_what_protobuf_writes(length: int) -> None:
    data = bytes(range(256)) * (length // 256) + bytes(length % 256)
    official = ModelInferRequest(raw_input_contents=[data]).SerializeToString()
    number = ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
    assert b"".join(field(number, data)) == official
    assert b"".join(field(number, memoryview(data)[: length // 2], data[length // 2 :])) == official
    assert b"".join(field(number, memoryview(data))) == official


@pytest.mark.parametrize("length", LENGTHS)
def test_an_entry_of_a_map_is_what_protobuf_writes(length: int) -> None:
    official = PredictionsRequest(input={"名": bytes(length)}).SerializeToString()
    assert (
        b"".join(map_entry(PredictionsRequest.INPUT_FIELD_NUMBER, "名", memoryview(bytes(length))))
        == official
    )


def test_a_field_number_over_15_takes_two_bytes() -> None:
    assert field(16, b"x")[0] == b"\x82\x01"


def test_joined_fields_add_to_those_of_the_message() -> None:
    head = ModelInferRequest(model_name="m", raw_input_contents=[b"first"])
    number = ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
    read = ModelInferRequest.FromString(joined(head, [field(number, b"second"), field(number, b"third")]))
    assert (read.model_name, list(read.raw_input_contents)) == ("m", [b"first", b"second", b"third"])
