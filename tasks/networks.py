"""The lesson's network, one layer, built twice: from torch's parts, and from scratch.

Both map inputs, float32 (N, inputs), to log-probabilities (N, classes).
"""

from typing import Literal

import torch
from torch import Tensor, nn

Layer = Literal["sequential", "scratch"]


class Scratch(nn.Module):
    """The layer written by hand: `log_softmax(x @ W + b)`.

    Args:
        inputs: number of inputs.
        classes: number of classes.
        generator: of the initial values, `randn / inputs` and `randn / classes`, which
            are the lesson's.
    """

    def __init__(
        self, inputs: int, classes: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        weights = torch.randn(inputs, classes, generator=generator) / inputs
        bias = torch.randn(classes, generator=generator) / classes
        # The same matrix, laid out by columns, as torch's own layer keeps it: products
        # with so few columns are two to four times faster so.
        self.weights = nn.Parameter(weights.t().contiguous().t())
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities."""
        return log_softmax(torch.addmm(self.bias, x, self.weights))


def log_softmax(scores: Tensor) -> Tensor:
    """Return the logarithm of the softmax of each row of `scores`, (N, classes).

    `log(exp(s_i) / sum_j exp(s_j)) = s_i - log(sum_j exp(s_j))`; the row's maximum is
    taken off first, which changes nothing but that `exp` can't overflow. The lesson's
    own, before it was corrected, summed over the whole batch and added 1, so that its
    first loss was about ln(64 + 1) instead of ln(10).
    """
    shifted = scores - scores.detach().amax(dim=1, keepdim=True)
    return shifted - shifted.exp().sum(dim=1, keepdim=True).log()


def build(
    layer: Layer, inputs: int, classes: int, generator: torch.Generator | None = None
) -> nn.Module:
    """Return the network with fresh parameters, drawn from `generator`."""
    if layer == "scratch":
        return Scratch(inputs, classes, generator)
    linear = nn.utils.skip_init(nn.Linear, inputs, classes)
    bound = inputs**-0.5  # torch's own choice, which it would draw from global state
    nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
    nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
    return nn.Sequential(linear, nn.LogSoftmax(dim=1))


def coefficients(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weights (inputs, classes) and bias (classes,), on the CPU."""
    if isinstance(network, Scratch):
        return network.weights.detach().cpu(), network.bias.detach().cpu()
    linear = network.get_submodule("0")
    assert isinstance(linear, nn.Linear)
    return linear.weight.detach().t().cpu(), linear.bias.detach().cpu()
