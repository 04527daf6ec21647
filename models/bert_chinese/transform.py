"""Text to token ids, and probabilities to an answer: for training, evaluation and the gateway alike."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

LABELS = ("negative", "positive")
LONGEST = 128
"""Tokens that are kept of a text, [CLS] and [SEP] included."""
LARGEST_BYTES = 1 << 20
"""Of a text that is looked at: far more than LONGEST tokens, and a bound on the time it may take."""


def _tokenizer() -> Tokenizer:
    """The tokenizer of bert-base-chinese: every Chinese character is a token, other words are word pieces."""
    path = Path(__file__).with_name("vocab.txt")
    # not splitlines(): one of the pieces is a line separator
    pieces = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    )
    return tokenizer


TOKENIZER = _tokenizer()


def shortened(ids: Sequence[int], longest: int = LONGEST) -> NDArray[np.int64]:
    """At most `longest` ids: a longer text keeps its head and its tail, where reviews say what they think.

    Best of the ways that C. Sun et al., "How to Fine-Tune BERT for Text Classification?"
    (arXiv:1905.05583), tried.
    """
    if len(ids) <= longest:
        return np.array(ids, np.int64)
    head = longest // 2
    return np.array([*ids[:head], *ids[head - longest :]], np.int64)


def to_inputs(payload: bytes) -> dict[str, NDArray[np.int64]]:
    """The ids of a text's tokens.

    Args:
        payload: the text in UTF-8; of more than LONGEST tokens the middle is left out.

    Returns:
        `tokens`, int64 [S] with 3 <= S <= LONGEST.

    Raises:
        ValueError: no UTF-8, longer than LARGEST_BYTES, or no text.
    """
    if len(payload) > LARGEST_BYTES:
        raise ValueError(f"expected a text of at most {LARGEST_BYTES} bytes, got {len(payload)}")
    try:
        text = payload.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected a text in UTF-8, got byte {error.object[error.start]:#04x} at {error.start}"
        ) from error
    ids = TOKENIZER.encode(text).ids
    if len(ids) <= 2:  # noqa: PLR2004 - [CLS] and [SEP] alone
        raise ValueError("expected a text, got none")
    return {"tokens": shortened(ids)}


def to_answer(outputs: Mapping[str, NDArray[np.generic]]) -> dict[str, Any]:
    """`{label: probability}`, the likelier first. `probabilities` float32 [2]."""
    values = outputs["probabilities"].astype(float).tolist()
    return dict(sorted(zip(LABELS, values, strict=True), key=lambda pair: -pair[1]))
