"""The networks to train: a single layer, built in two ways, a perceptron, and a CNN.

The single layer is built from torch's modules and from scratch; `mlp` and `cnn` only
from torch's modules. All map inputs, standardized float32 (N, inputs), to
log-probabilities (N, classes).
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tasks.modeling import architectures
from tasks.modeling.architectures import Architecture, Shape
from tasks.training.settings import Layer


class Scratch(nn.Module):
    """The layer from scratch, `log_softmax(x @ W + b)`.

    The initial values are those of the lesson: `randn / inputs`, `randn / classes`.
    """

    def __init__(self, inputs: int, n_classes: int, generator: torch.Generator) -> None:
        super().__init__()
        weights = torch.randn(inputs, n_classes, generator=generator) / inputs
        bias = torch.randn(n_classes, generator=generator) / n_classes
        # Stored by columns, like torch's own layer: products with so few columns are
        # two to four times as fast.
        self.weights = nn.Parameter(weights.t().contiguous().t())
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities."""
        return log_softmax(torch.addmm(self.bias, x, self.weights))


def log_softmax(scores: Tensor) -> Tensor:
    """Return the logarithm of the softmax of each row of `scores`, (N, classes).

    `log(exp(s_i) / sum_j exp(s_j)) = s_i - log(sum_j exp(s_j))`. Subtracting the row's
    maximum first does not change the result, and `exp` can't overflow. The lesson's
    first version summed over the whole batch and added 1, so its first loss was about
    ln(64 + 1) instead of ln(10).
    """
    shifted = scores - scores.detach().amax(dim=1, keepdim=True)
    return shifted - shifted.exp().sum(dim=1, keepdim=True).log()


def build(
    architecture: Architecture,
    layer: Layer,
    shape: Shape,
    n_classes: int,
    generator: torch.Generator,
) -> nn.Module:
    """Return a network with initial parameters drawn from `generator`.

    Raises:
        BadInput: images of this shape are too small for the architecture.
    """
    sizes = architectures.layout(architecture, shape, n_classes)
    *hidden, last = [size for name, size in sizes.items() if "weights" in name]
    if layer == "scratch":
        return Scratch(last[0], last[1], generator)
    parts: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):  # constructors draw from the global one
        if architecture == "cnn":
            parts.append(nn.Unflatten(1, (1, *shape)))
            for outputs, inputs, kernel, _ in hidden:
                # No bias: batch normalization would subtract it again.
                parts += [
                    nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                ]
            parts.append(nn.Flatten())
        else:
            for inputs, outputs in hidden:
                parts += [nn.Linear(inputs, outputs), nn.ReLU()]
        output = nn.Linear(last[0], last[1])
        network = nn.Sequential(*parts, output, nn.LogSoftmax(dim=1))
    for part in network:
        if isinstance(part, nn.Linear | nn.Conv2d):
            bound = part.weight[0].numel() ** -0.5  # as torch's constructors
            for parameter in part.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
    # Convolutions are nearly twice as fast with the channels last in memory.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


@torch.no_grad()
def tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model file, float32 on the CPU: `architectures.layout`.

    Batch normalization becomes part of the convolution before it.
    """
    layers = [(weights.cpu(), bias.cpu()) for weights, bias in _layers(network)]
    return architectures.named(layers)


def _layers(network: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weights and bias of each layer."""
    if isinstance(network, Scratch):
        yield network.weights.detach(), network.bias.detach()
    for part, following in itertools.pairwise(network.children()):
        if isinstance(part, nn.Linear):
            yield part.weight.detach().t(), part.bias.detach()
        elif isinstance(following, nn.BatchNorm2d):
            assert isinstance(part, nn.Conv2d)
            yield _folded(part.weight, following)


def _folded(weights: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weights and bias of a convolution that includes the normalization.

    `(W * x - mean) / sqrt(var + eps) * gamma + beta`, with the running mean and
    variance of the training, is a convolution with the weights `W * f` and the bias
    `beta - mean * f`, where `f = gamma / sqrt(var + eps)`.
    """
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    factor = norm.weight.double() / (variance.double() + norm.eps).sqrt()
    folded = weights.double() * factor[:, None, None, None]
    bias = norm.bias.double() - mean.double() * factor
    return folded.float().contiguous(), bias.float()
