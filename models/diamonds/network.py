"""The network, one linear layer: features [N, 4] in 0..1 to log_price [N, 1], the logarithm of US dollars."""

from collections.abc import Mapping

from torch import Tensor, nn


class Network(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """Linear regression.

    Args:
        features: how many.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)

    def logits(self, features: Tensor) -> Tensor:
        """The same as `forward`: a regression has nothing before its answer."""
        return self.forward(features)

    def forward(self, features: Tensor) -> Tensor:
        """Float32 [N, features] to [N, 1]."""
        answer: Tensor = self.linear(features)
        return answer


def of(weights: Mapping[str, Tensor]) -> Network:
    """The network that a checkpoint fits, with its weights, in evaluation mode."""
    network = Network(weights["linear.weight"].shape[1])
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    network.eval()
    return network
