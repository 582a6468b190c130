"""The tensors of a saved model, by architecture, and the scores computed from them.

- `linear`: `inputs @ weights + bias`.
- `mlp`, a multi-layer perceptron: inputs-100-100-classes, with `max(0, ...)` between.
- `cnn`, a convolutional network: three times a 3x3 convolution with zero padding,
  `max(0, ...)`, and the maximum of each 2x2 pixels; then one dense layer. In training,
  batch normalization follows each convolution; a saved model includes it in the
  convolution's weights and bias.

Layers are numbered from 1: `weights1`, `bias1`, `weights2`; a single layer has no
number. Dense weights are (inputs, outputs), convolutions (outputs, inputs, 3, 3).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

import numpy as np

from tasks.dataset.splits import Floats
from tasks.runtime.params import BadInput

Shape = tuple[int, int]  # rows and columns of an image
Architecture = Literal["linear", "mlp", "cnn"]

HIDDEN = (100, 100)
CHANNELS = (16, 32, 64)
KERNEL = 3
# Images per call of a convolution; with 16 channels, MNIST's take 13 MB.
BATCH = 2**8

T = TypeVar("T")


def layout(
    architecture: Architecture, shape: Shape, n_classes: int
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each float32 tensor of a model, by name.

    Raises:
        BadInput: images of this shape are too small for the architecture.
    """
    if architecture != "cnn":
        hidden = HIDDEN if architecture == "mlp" else ()
        widths = itertools.pairwise((math.prod(shape), *hidden, n_classes))
        return named([((inputs, outputs), (outputs,)) for inputs, outputs in widths])
    least = 2 ** len(CHANNELS)
    if min(shape) < least:
        raise BadInput(
            f"The architecture `cnn` needs images of at least {least} by {least} "
            f"pixels, not {shape[0]} by {shape[1]}. Choose `linear` or `mlp`."
        )
    convolutions = [
        ((outputs, inputs, KERNEL, KERNEL), (outputs,))
        for inputs, outputs in itertools.pairwise((1, *CHANNELS))
    ]
    features = CHANNELS[-1] * math.prod(size // least for size in shape)
    return named([*convolutions, ((features, n_classes), (n_classes,))])


def named(layers: Sequence[tuple[T, T]]) -> dict[str, T]:
    """Return (weights, bias) of each layer by name."""
    numbers = range(1, len(layers) + 1) if len(layers) > 1 else [""]
    return {
        f"{part}{number}": value
        for number, (weights, bias) in zip(numbers, layers, strict=True)
        for part, value in (("bias", bias), ("weights", weights))
    }


def _layers(tensors: Mapping[str, T]) -> list[tuple[T, T]]:
    """Return (weights, bias) of each layer: the inverse of `named`."""
    numbers = sorted(
        name.removeprefix("bias") for name in tensors if name.startswith("bias")
    )
    return [(tensors[f"weights{each}"], tensors[f"bias{each}"]) for each in numbers]


def scores(
    architecture: Architecture,
    tensors: Mapping[str, Floats],
    inputs: Floats,
    shape: Shape,
) -> Floats:
    """Return the scores of each class before the softmax, float32 (N, classes).

    `tensors` are those of `layout`, `inputs` are standardized, float32 (N, inputs).
    """
    if architecture == "cnn":
        return _cnn_scores(tensors, inputs, shape)
    *hidden, (weights, bias) = _layers(tensors)
    values = inputs
    for hidden_weights, hidden_bias in hidden:
        values = np.maximum(values @ hidden_weights + hidden_bias, 0)
    return np.asarray(values @ weights + bias)


def _cnn_scores(tensors: Mapping[str, Floats], inputs: Floats, shape: Shape) -> Floats:
    """Return the scores of a `cnn`, batch by batch."""
    import torch  # noqa: PLC0415  # 1.5 s that the other architectures don't need
    from torch.nn import functional  # noqa: PLC0415  # as above

    *convolutions, (weights, bias) = _layers(
        {name: torch.tensor(values) for name, values in tensors.items()}
    )
    threads = torch.get_num_threads()
    # The limit of the step's threads was set before torch was imported.
    torch.set_num_threads(1)
    found = []
    try:
        for part in np.split(inputs, range(BATCH, len(inputs), BATCH)):
            values = torch.tensor(part.reshape(-1, 1, *shape))
            for kernels, offsets in convolutions:
                # Channels last in memory: nearly twice as fast.
                kernels = kernels.to(memory_format=torch.channels_last)  # noqa: PLW2901
                values = functional.conv2d(
                    values, kernels, offsets, padding=KERNEL // 2
                )
                values = functional.max_pool2d(functional.relu(values), 2)
            found.append((values.flatten(1) @ weights + bias).numpy())
    finally:
        torch.set_num_threads(threads)
    return np.concatenate(found)
