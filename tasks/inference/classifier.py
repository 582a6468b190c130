"""Classify images with a model, fast enough for millions of them.

A model of one layer is multiplied with the pixels as they are: the scale of the inputs
and the temperature go into its weights, `((x / d - m) / s) @ W + b = x @ (W / d / s) +
(b - m / s * sum of W)`. The numbers are those of `Model.log_probabilities` but for
rounding in float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.dataset.spec import ImageSpec
from tasks.dataset.splits import Floats, Pixels
from tasks.modeling import calibration
from tasks.modeling.model_file import Model

# Of as many images as these the inputs stay in the processor's cache.
CHUNK = 256
# Columns that a product takes at once, and how many left over are done one by one.
EIGHT, FEW = 8, 2

Indices = npt.NDArray[np.intp]


class Predictions(NamedTuple):
    """For each image the most probable label, its probability, and the second, (N,).

    Labels are indices into the model's class names.
    """

    best: Indices
    probability: Floats
    runner_up: Indices


class Classifier(NamedTuple):
    """A model, ready for images without labels.

    Attributes:
        image_spec: of its images.
        class_names: by label.
        temperature: that calibrates it; None if it was not calibrated.
        threshold: the probability below which a prediction is set aside; None: all are.
        predict: takes images of that specification, uint8 (N, rows, columns).
    """

    image_spec: ImageSpec
    class_names: tuple[str, ...]
    temperature: float | None
    threshold: float | None
    predict: Callable[[Pixels], Predictions]


def prepare(model: Model, max_error: float) -> Classifier:
    """Return the classifier that `model` makes.

    Args:
        model: calibrated, or else all that it says is set aside.
        max_error: the share of its predictions that may be wrong among those it keeps.
    """
    about = model.description
    measured = about.calibration
    return Classifier(
        image_spec=about.form,
        class_names=about.classes,
        temperature=measured.temperature if measured else None,
        threshold=calibration.threshold(measured, max_error) if measured else None,
        predict=_of_linear(model) if _is_linear(model) else _of_any(model),
    )


def _is_linear(model: Model) -> bool:
    about = model.description
    return about.architecture == "linear" and about.link == "softmax"


def _of_linear(model: Model) -> Callable[[Pixels], Predictions]:
    about = model.description
    scale, measured = about.scale, about.calibration
    cooled = 1 / measured.temperature if measured else 1.0
    of_inputs = model.tensors["weights"].astype(np.float64) * cooled
    weights = of_inputs / (scale.divisor * scale.std)
    offset = scale.mean / scale.std * of_inputs.sum(axis=0)
    bias = model.tensors["bias"] * cooled - offset
    # Only differences count: one class has the score 0, and is not multiplied.
    products = _products((weights - weights[:, -1:])[:, :-1].astype(np.float32))
    added = (bias - bias[-1]).astype(np.float32)[:, None]

    def predict(images: Pixels) -> Predictions:
        scores = np.zeros((len(bias), len(images)), np.float32)
        products(images.reshape(len(images), -1), scores)
        scores += added
        return _of_scores(scores)

    return predict


def _products(weights: Floats) -> Callable[[Pixels, Floats], None]:
    """Return what writes `weights.T @ pixels.T` of pixels, (N, inputs), into rows.

    OpenBLAS multiplies eight columns as fast as six; what is left of them is faster
    alone, as vectors: nine columns take 0.8 of the time that they take at once.
    """
    inputs, columns = weights.shape
    even = columns - columns % EIGHT if columns % EIGHT <= FEW else columns
    together = np.ascontiguousarray(weights[:, :even])
    alone = [np.ascontiguousarray(weights[:, n]) for n in range(even, columns)]
    room = np.empty((CHUNK, inputs), np.float32)

    def write(pixels: Pixels, rows: Floats) -> None:
        for start in range(0, len(pixels), CHUNK):
            some = pixels[start : start + CHUNK]
            floats = room[: len(some)]
            np.copyto(floats, some)
            part = rows[:, start : start + CHUNK]
            if even:
                part[:even] = (floats @ together).T
            for row, column in enumerate(alone, start=even):
                np.dot(floats, column, out=part[row])

    return write


def _of_any(model: Model) -> Callable[[Pixels], Predictions]:
    def predict(images: Pixels) -> Predictions:
        return _of_scores(model.log_probabilities(images).T.astype(np.float32))

    return predict


def _of_scores(scores: Floats) -> Predictions:
    """Return the predictions of scores, (classes, N), before the softmax."""
    # A class a row: its numbers lie together only so, and are compared many at once.
    scores = np.ascontiguousarray(scores)
    highest = scores.max(axis=0)
    best = _first_row(scores, highest)
    shares = np.exp(scores - highest)
    probability = 1 / shares.sum(axis=0)
    shares[best, np.arange(len(best))] = -1
    return Predictions(best, probability, _first_row(shares, shares.max(axis=0)))


def _first_row(values: Floats, highest: Floats) -> Indices:
    """Return the first row of `values`, (rows, N), that holds `highest`, (N,).

    As `values.argmax(axis=0)` does, which takes five times as long.
    """
    from_the_end = np.arange(len(values) - 1, -1, -1, dtype=np.uint8)[:, None]
    last = ((values == highest) * from_the_end).max(axis=0)
    return np.asarray(len(values) - 1 - last.astype(np.intp))
