"""BERT (J. Devlin et al., arXiv:1810.04805), small enough to read at one go.

    tokens int64 [N, S]                              0 is [PAD]
    word + position embedding, norm                  [N, S, hidden]
    layers x:  attention, norm                       every layer may have a number of heads of its own
               up, gelu, down, norm                  ... and of neurons
    mean over what is not padding                    [N, hidden]
    dense, softmax                                   probabilities float32 [N, 2]

What a segment's embedding would add is part of the position embedding: there is only one segment. The sizes
are read from a checkpoint's shapes, so that a pruned checkpoint needs no configuration beside it.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from models.bert_chinese.sizes import EPSILON, FAR, PAD, head_width


class Layer(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """One encoder layer: float32 [N, S, hidden] to the same."""

    def __init__(self, hidden: int, heads: int, neurons: int) -> None:
        super().__init__()
        self.heads, self.width = heads, head_width(hidden)
        inner = heads * self.width
        self.query = nn.Linear(hidden, inner)
        self.key = nn.Linear(hidden, inner)
        self.value = nn.Linear(hidden, inner)
        self.join = nn.Linear(inner, hidden)
        self.join_norm = nn.LayerNorm(hidden, EPSILON)
        self.up = nn.Linear(hidden, neurons)
        self.down = nn.Linear(neurons, hidden)
        self.down_norm = nn.LayerNorm(hidden, EPSILON)

    def split(self, x: Tensor) -> Tensor:
        """[N, S, heads x width] to [N, heads, S, width]."""
        return x.view(x.shape[0], x.shape[1], self.heads, self.width).transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor, dropout: float) -> Tensor:
        """Args: x [N, S, hidden]; mask [N, 1, 1, S], 0 or FAR; dropout 0..1."""
        query, key, value = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = query @ key.transpose(2, 3) * self.width**-0.5 + mask
        weights = functional.dropout(scores.softmax(3), dropout, self.training)
        mixed = (weights @ value).transpose(1, 2).reshape(x.shape[0], x.shape[1], self.heads * self.width)
        x = self.join_norm(x + functional.dropout(self.join(mixed), dropout, self.training))
        inner = self.down(functional.gelu(self.up(x)))
        normed: Tensor = self.down_norm(x + functional.dropout(inner, dropout, self.training))
        return normed


class Network(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """Token ids to the probabilities of [negative, positive]."""

    def __init__(
        self,
        vocabulary: int,
        positions: int,
        hidden: int,
        heads: Sequence[int],
        neurons: Sequence[int],
        dropout: float = 0.1,
        labels: int = 2,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.word = nn.Embedding(vocabulary, hidden)
        self.position = nn.Embedding(positions, hidden)
        self.norm = nn.LayerNorm(hidden, EPSILON)
        self.layers = nn.ModuleList(Layer(hidden, h, n) for h, n in zip(heads, neurons, strict=True))
        self.classify = nn.Linear(hidden, labels)

    def states(self, tokens: Tensor) -> list[Tensor]:
        """The embedding's and every layer's output, each float32 [N, S, hidden]."""
        mask = (tokens == PAD)[:, None, None, :].to(self.norm.weight.dtype) * FAR
        x = self.norm(self.word(tokens) + self.position.weight[: tokens.shape[1]])
        x = functional.dropout(x, self.dropout, self.training)
        found = [x]
        for layer in self.layers:
            found.append(layer(found[-1], mask, self.dropout))
        return found

    @staticmethod
    def pool(tokens: Tensor, encoded: Tensor) -> Tensor:
        """The mean over the positions that are not padding, float32 [N, hidden]."""
        kept = (tokens != PAD)[:, :, None].to(encoded.dtype)
        return (encoded * kept).sum(1) / kept.sum(1).clamp(min=1.0)

    def logits(self, tokens: Tensor) -> Tensor:
        """Float32 [N, 2]."""
        scores: Tensor = self.classify(self.pool(tokens, self.states(tokens)[-1]))
        return scores

    def training_outputs(self, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits [N, 2], and `states`."""
        states = self.states(tokens)
        return self.classify(self.pool(tokens, states[-1])), states

    def forward(self, tokens: Tensor) -> Tensor:
        """Probabilities, float32 [N, 2]."""
        return self.logits(tokens).softmax(1)


def of(weights: Mapping[str, Tensor]) -> Network:
    """The network that a checkpoint fits, with its weights, in evaluation mode."""
    layers = range(len({name.split(".")[1] for name in weights if name.startswith("layers.")}))
    vocabulary, hidden = weights["word.weight"].shape
    network = Network(
        vocabulary,
        weights["position.weight"].shape[0],
        hidden,
        [weights[f"layers.{i}.query.weight"].shape[0] // head_width(hidden) for i in layers],
        [weights[f"layers.{i}.up.weight"].shape[0] for i in layers],
        labels=weights["classify.weight"].shape[0],
    )
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    network.eval()
    return network
