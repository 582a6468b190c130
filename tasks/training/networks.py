"""The networks that are trained: the lesson's one layer, built twice, and larger ones.

The layer is built from torch's parts, and from scratch; `mlp` and `cnn`, from torch's
parts alone. All map inputs, standardized float32 (N, inputs), to log-probabilities
(N, classes).
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tasks.modeling import architectures
from tasks.modeling.architectures import Architecture
from tasks.training.settings import Layer


class Scratch(nn.Module):
    """The layer written by hand: `log_softmax(x @ W + b)`.

    Args:
        inputs: number of inputs.
        n_classes: number of classes.
        generator: of the initial values, `randn / inputs` and `randn / classes`, which
            are the lesson's.
    """

    def __init__(
        self, inputs: int, n_classes: int, *, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        weights = torch.randn(inputs, n_classes, generator=generator) / inputs
        bias = torch.randn(n_classes, generator=generator) / n_classes
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
    architecture: Architecture,
    layer: Layer,
    shape: tuple[int, int],
    n_classes: int,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Return the network with fresh parameters, drawn from `generator`.

    Args:
        architecture: of the network.
        layer: `scratch` is of the architecture `linear` alone.
        shape: rows and columns of an image.
        n_classes: number of classes.
        generator: of the initial values.

    Raises:
        BadInput: images of this shape are too small for the architecture.
    """
    sizes = architectures.layout(architecture, shape, n_classes)
    *before, last = [sizes[name] for name in sizes if name.startswith("weights")]
    if layer == "scratch":
        assert architecture == "linear"
        return Scratch(*last, generator=generator)
    if architecture == "cnn":
        parts = [
            nn.Unflatten(1, (1, *shape)),
            *(part for size in before for part in _convolution(size, generator)),
            nn.Flatten(),
        ]
    else:
        parts = [
            part for size in before for part in (_dense(size, generator), nn.ReLU())
        ]
    network: nn.Module = nn.Sequential(
        *parts, _dense(last, generator), nn.LogSoftmax(dim=1)
    )
    # Convolutions are nearly twice as fast with the channels last in memory; all else
    # stays as it is.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _dense(size: tuple[int, ...], generator: torch.Generator | None) -> nn.Module:
    """Return a dense layer, (inputs, outputs)."""
    linear: nn.Linear = nn.utils.skip_init(nn.Linear, *size)
    _draw(linear.weight, linear.bias, inputs=size[0], generator=generator)
    return linear


def _convolution(
    size: tuple[int, ...], generator: torch.Generator | None
) -> Iterator[nn.Module]:
    """Yield a convolution, (outputs, inputs, kernel, kernel), and what belongs to it.

    It has no bias of its own: the normalization would take it off again.
    """
    outputs, inputs, kernel, _ = size
    convolution = nn.utils.skip_init(
        nn.Conv2d, inputs, outputs, kernel, padding=kernel // 2, bias=False
    )
    _draw(convolution.weight, inputs=inputs * kernel**2, generator=generator)
    yield convolution
    yield nn.BatchNorm2d(outputs)
    yield nn.ReLU()
    yield nn.MaxPool2d(2)


def _draw(*values: Tensor, inputs: int, generator: torch.Generator | None) -> None:
    """Fill in initial values of a layer with so many inputs to each output."""
    bound = inputs**-0.5  # torch's own choice, which it would draw from global state
    for each in values:
        nn.init.uniform_(each, -bound, bound, generator=generator)


def tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return what is saved of a network, float32 on the CPU: `architectures.layout`.

    Batch normalization becomes a part of the convolution before it.
    """
    layers = [(weights.cpu(), bias.cpu()) for weights, bias in _layers(network)]
    return architectures.named(layers)


@torch.no_grad()
def _layers(network: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weights and bias of each layer."""
    if isinstance(network, Scratch):
        yield network.weights.detach(), network.bias.detach()
        return
    for part, following in itertools.pairwise(network.children()):
        if isinstance(part, nn.Linear):
            yield part.weight.detach().t(), part.bias.detach()
        elif isinstance(part, nn.Conv2d):
            assert isinstance(following, nn.BatchNorm2d)
            yield _folded(part.weight, following)


def _folded(weights: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weights and bias of a convolution that does what `norm` does besides.

    `(W * x - mean) / sqrt(var + eps) * gamma + beta`, with the means and variances that
    it found in training, is a convolution by `W * f` with the bias `beta - mean * f`,
    where `f = gamma / sqrt(var + eps)`.
    """
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    factor = norm.weight.double() / (variance.double() + norm.eps).sqrt()
    folded = weights.double() * factor[:, None, None, None]
    bias = norm.bias.double() - mean.double() * factor
    return folded.float().contiguous(), bias.float()
