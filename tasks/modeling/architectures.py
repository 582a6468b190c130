"""What a saved model is made of, by architecture, and the scores that follow from it.

- `linear`: `inputs @ weights + bias`.
- `mlp`, a multi-layer perceptron: inputs-100-100-classes, `max(0, ...)` in between.
- `cnn`, a convolutional network: three times a convolution 3x3 with as many zeros at
  the borders as keep the size, `max(0, ...)`, and the maximum of each 2x2 pixels; then
  one dense layer. While it is trained each convolution has batch normalization behind
  it, which is part of the convolution's weights and bias by the time it is saved.

The layers of a network have numbers, from 1: `weights1`, `bias1`, `weights2`. Dense
weights are (inputs, outputs), those of a convolution (outputs, inputs, 3, 3).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from tasks.dataset.splits import Floats
from tasks.runtime.params import BadInput

Architecture = Literal["linear", "mlp", "cnn"]

HIDDEN = (100, 100)
CHANNELS = (16, 32, 64)
KERNEL = 3
# Images that a convolution is done on at a time: 13 MB of MNIST's, 16 channels each.
TOGETHER = 2**8

T = TypeVar("T")


def layout(
    architecture: Architecture, shape: tuple[int, int], n_classes: int
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a model, by name; all are float32.

    Args:
        architecture: of the model.
        shape: rows and columns of an image.
        n_classes: number of classes.

    Raises:
        BadInput: images of this shape are too small for the architecture.
    """
    inputs = math.prod(shape)
    if architecture == "linear":
        return named([((inputs, n_classes), (n_classes,))])
    if architecture == "mlp":
        widths = (inputs, *HIDDEN, n_classes)
        return named([((a, b), (b,)) for a, b in itertools.pairwise(widths)])
    least = 2 ** len(CHANNELS)
    if min(shape) < least:
        raise BadInput(
            f"The architecture `cnn` takes images of {least} by {least} pixels or "
            f"more, not of {shape[0]} by {shape[1]}; make it `linear` or `mlp`."
        )
    convolutions = [
        ((after, before, KERNEL, KERNEL), (after,))
        for before, after in itertools.pairwise((1, *CHANNELS))
    ]
    left = CHANNELS[-1] * math.prod(size // least for size in shape)
    return named([*convolutions, ((left, n_classes), (n_classes,))])


def named(layers: Sequence[tuple[T, T]]) -> dict[str, T]:
    """Return weights and bias of each layer by name; an only layer has no number."""
    numbers = range(1, len(layers) + 1) if len(layers) > 1 else [""]
    return {
        f"{part}{number}": value
        for number, (weights, bias) in zip(numbers, layers, strict=True)
        for part, value in (("bias", bias), ("weights", weights))
    }


def scores(
    architecture: Architecture,
    tensors: Mapping[str, Floats],
    inputs: Floats,
    shape: tuple[int, int],
) -> Floats:
    """Return the scores of each class before the softmax, float32 (N, classes).

    Args:
        architecture: of the model.
        tensors: as `layout` says.
        inputs: standardized, float32 (N, rows * columns).
        shape: rows and columns of an image.
    """
    if architecture == "linear":
        return np.asarray(inputs @ tensors["weights"] + tensors["bias"])
    if architecture == "mlp":
        return _perceptron(tensors, inputs)
    return _convolutional(tensors, inputs, shape)


def _perceptron(tensors: Mapping[str, Floats], inputs: Floats) -> Floats:
    """Return the scores of the `mlp`."""
    values = inputs
    for number in range(1, len(HIDDEN) + 1):
        values = values @ tensors[f"weights{number}"] + tensors[f"bias{number}"]
        np.maximum(values, 0, out=values)
    last = len(HIDDEN) + 1
    return np.asarray(values @ tensors[f"weights{last}"] + tensors[f"bias{last}"])


def _convolutional(
    tensors: Mapping[str, Floats], inputs: Floats, shape: tuple[int, int]
) -> Floats:
    """Return the scores of the `cnn`, batch by batch."""
    import torch  # noqa: PLC0415  # 1.5 s, which the others are spared

    own = {name: torch.tensor(values) for name, values in tensors.items()}
    threads = torch.get_num_threads()
    # The step was held to one thread before torch was there to be held.
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            parts = [
                _convolved(own, torch.tensor(part.reshape(-1, 1, *shape))).numpy()
                for part in np.split(inputs, range(TOGETHER, len(inputs), TOGETHER))
            ]
    finally:
        torch.set_num_threads(threads)
    return np.concatenate(parts)


def _convolved(tensors: dict[str, Any], images: Any) -> Any:
    """Return the scores of `images`, a tensor (N, 1, rows, columns)."""
    import torch  # noqa: PLC0415  # as above
    from torch.nn import functional  # noqa: PLC0415  # as above

    values = images
    for number in range(1, len(CHANNELS) + 1):
        # Channels last in memory: nearly twice as fast.
        weights = tensors[f"weights{number}"].to(memory_format=torch.channels_last)
        values = functional.conv2d(
            values, weights, tensors[f"bias{number}"], padding=KERNEL // 2
        )
        values = functional.max_pool2d(functional.relu(values), 2)
    last = len(CHANNELS) + 1
    return values.flatten(1) @ tensors[f"weights{last}"] + tensors[f"bias{last}"]
