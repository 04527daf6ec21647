"""Prunes a small BERT and prints what became of it as JSON; run by test_transformer.py, where torch is."""

import json
import sys

import numpy as np
import torch

from models.bert_chinese.network import Network, of
from models.compression import transformer

HEAD = 32


def main() -> None:
    """Print the facts."""
    torch.manual_seed(1)
    network = Network(50, 16, 64, [4, 4], [24, 24], dropout=0.0).eval()
    idle_heads, idle_neurons = [1, 2], [0, 3, 5]
    with torch.no_grad():  # what these units say, nobody hears
        for head in idle_heads:
            network.layers[0].join.weight[:, head * HEAD : (head + 1) * HEAD] = 0
        network.layers[1].down.weight[:, idle_neurons] = 0
    tokens = torch.randint(1, 50, (8, 12))
    labels = torch.randint(0, 2, (8,))

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(network.logits(tokens), labels)

    found = transformer.importance(list(network.layers), [loss, loss], HEAD)
    heads = [np.array([0, 3]), np.arange(4)]
    neurons = [np.arange(24), np.setdiff1d(np.arange(24), idle_neurons)]
    smaller = of(transformer.without(network.state_dict(), heads, neurons, HEAD))
    with torch.no_grad():
        difference = float((smaller(tokens) - network(tokens)).abs().max())
    scores = [np.array([1.0, 5.0, 3.0, 4.0]), np.array([10.0, 0.1, 0.2, 0.3])]
    facts = {
        "idle_heads": found.heads[0][idle_heads].tolist(),
        "least_used_head": float(np.delete(found.heads[0], idle_heads).min()),
        "idle_neurons": found.neurons[1][idle_neurons].tolist(),
        "least_used_neuron": float(np.delete(found.neurons[1], idle_neurons).min()),
        "hooks_left": sum(len(layer.join._forward_pre_hooks) for layer in network.layers),
        "difference": difference,
        "query": list(smaller.layers[0].query.weight.shape),
        "down": list(smaller.layers[1].down.weight.shape),
        "strongest": [layer.tolist() for layer in transformer.strongest(scores, keep=0.5, least=1)],
        "in_twos": [layer.tolist() for layer in transformer.strongest(scores, keep=0.5, least=2, multiple=2)],
    }
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    main()
