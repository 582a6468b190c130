"""Classify images with a model, millions of them in seconds.

A softmax regression is one product with the pixels as they are: the scale of the inputs
and the temperature are folded into the weights, `((x / d - m) / s) @ W + b =
x @ (W / d / s) + (b - m / s * sum of W)`. Apart from rounding in float32, the
probabilities are those of `Model.log_probabilities`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.dataset.spec import ImageSpec
from tasks.dataset.splits import Floats, Pixels
from tasks.modeling import calibration
from tasks.modeling.model_file import Model

Labels = npt.NDArray[np.intp]


class Predictions(NamedTuple):
    """The two most probable classes of each image, as labels, each of shape (N,)."""

    label: Labels
    probability: Floats
    runner_up: Labels


class Classifier(NamedTuple):
    """A model prepared to classify images of its specification, (N, rows, columns)."""

    image_spec: ImageSpec
    class_names: tuple[str, ...]
    temperature: float | None  # None if the model is not calibrated
    threshold: float | None  # less probable predictions are set aside; None: all are
    predict: Callable[[Pixels], Predictions]


def prepare(model: Model, max_error: float) -> Classifier:
    """Return a classifier for `model`.

    Args:
        model: all predictions of an uncalibrated model are set aside.
        max_error: the largest share of wrong predictions among those not set aside.
    """
    description = model.description
    measured = description.calibration
    linear = description.architecture == "linear" and description.link == "softmax"
    score = _linear_scores(model) if linear else model.log_probabilities
    return Classifier(
        image_spec=description.form,
        class_names=description.classes,
        temperature=measured.temperature if measured else None,
        threshold=calibration.threshold(measured, max_error) if measured else None,
        predict=lambda images: _top_two(score(images).astype(np.float32, copy=False)),
    )


def _linear_scores(model: Model) -> Callable[[Pixels], Floats]:
    """Return a function that computes calibrated scores, (N, classes), from pixels."""
    scale, measured = model.description.scale, model.description.calibration
    temperature = measured.temperature if measured else 1.0
    weights = model.tensors["weights"].astype(np.float64) / temperature
    offset = scale.mean / scale.std * weights.sum(axis=0)
    bias = (model.tensors["bias"] / temperature - offset).astype(np.float32)
    folded = (weights / (scale.divisor * scale.std)).astype(np.float32)

    def score(images: Pixels) -> Floats:
        inputs = images.reshape(len(images), -1).astype(np.float32)
        return np.asarray(inputs @ folded + bias)

    return score


def _top_two(scores: Floats) -> Predictions:
    """Return the two largest of the scores, (N, classes), and the softmax of the first.

    The lower label wins a tie.
    """
    rows = np.arange(len(scores))
    label = scores.argmax(axis=1)
    exponentials = np.exp(scores - scores[rows, label][:, None])
    probability = 1 / exponentials.sum(axis=1)
    exponentials[rows, label] = -1
    return Predictions(label, probability, exponentials.argmax(axis=1))
