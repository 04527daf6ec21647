import numpy as np
import pytest

from models.bert_chinese import transform


def ids(text: str) -> list[int]:
    tokens: list[int] = transform.to_inputs(text.encode())["tokens"].tolist()
    return tokens


def test_text_becomes_the_tokens_of_bert_base_chinese() -> None:
    # as that model's own tokenizer has them
    assert ids("房间很干净") == [101, 2791, 7313, 2523, 2397, 1112, 102]
    assert ids("今天天气不错!") == [101, 791, 1921, 1921, 3698, 679, 7231, 106, 102]


def test_latin_words_are_lower_case_pieces_and_what_is_unknown_is_unk() -> None:
    assert ids("WiFi") == ids("wifi")
    assert len(ids("unbelievable")) > 3
    assert ids("\U0001f9ff") == [101, 100, 102]


def test_spaces_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    assert ids("\ufeff很 好\r\n") == ids("很好")


def test_of_a_long_text_head_and_tail_stay() -> None:
    text = "好" * 300 + "差" * 300
    tokens = ids(text)
    good, bad = ids("好")[1], ids("差")[1]
    assert tokens == [101, *[good] * 63, *[bad] * 63, 102]
    assert len(tokens) == transform.LONGEST


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "expected a text, got none"),
        (b" \n", "expected a text, got none"),
        (b"\xff\xfe\x00", "expected a text in UTF-8, got byte 0xff at 0"),
        ("好".encode() * 400_000, "at most 1048576 bytes, got 1200000"),
    ],
)
def test_what_is_no_text_is_refused_with_what_was_expected(payload: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transform.to_inputs(payload)


def test_an_answer_names_the_likelier_label_first() -> None:
    answer = transform.to_answer({"probabilities": np.array([0.25, 0.75], np.float32)})
    assert list(answer.items()) == [("positive", 0.75), ("negative", 0.25)]
