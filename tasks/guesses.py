"""What a model takes images for, fast enough for millions of them.

A model of one layer is multiplied with the pixels as they are: the scale of the inputs
and the temperature go into its weights, `((x / d - m) / s) @ W + b = x @ (W / d / s) +
(b - m / s * sum of W)`. The numbers are those of `Model.log_probabilities` but for
rounding in float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks import calibration
from tasks.forms import Form
from tasks.models import Model
from tasks.splits import Floats, Pixels

# Of as many images as these the inputs stay in the processor's cache.
CHUNK = 512

Places = npt.NDArray[np.intp]


class Guesses(NamedTuple):
    """Of each image the first choice, its probability, and the second choice, (N,).

    Choices are places in the model's classes.
    """

    best: Places
    probability: Floats
    runner_up: Places


class Guesser(NamedTuple):
    """A model as it is used on images without labels.

    Attributes:
        form: of its images.
        classes: their names.
        temperature: that calibrates it; None if it was not calibrated.
        threshold: the probability below which a guess is set aside; None: all are.
        guess: what it takes images of that form for, uint8 (N, rows, columns).
    """

    form: Form
    classes: tuple[str, ...]
    temperature: float | None
    threshold: float | None
    guess: Callable[[Pixels], Guesses]


def guesser(model: Model, max_error: float) -> Guesser:
    """Return how to use `model`.

    Args:
        model: calibrated, or else all that it says is set aside.
        max_error: the share of its predictions that may be wrong among those it keeps.
    """
    about = model.description
    measured = about.calibration
    return Guesser(
        form=about.form,
        classes=about.classes,
        temperature=measured.temperature if measured else None,
        threshold=calibration.threshold(measured, max_error) if measured else None,
        guess=_of_linear(model) if _is_linear(model) else _of_any(model),
    )


def _is_linear(model: Model) -> bool:
    about = model.description
    return about.architecture == "linear" and about.link == "softmax"


def _of_linear(model: Model) -> Callable[[Pixels], Guesses]:
    about = model.description
    scale, measured = about.scale, about.calibration
    cooled = 1 / measured.temperature if measured else 1.0
    of_inputs = model.tensors["weights"].astype(np.float64) * cooled
    weights = (of_inputs / (scale.divisor * scale.std)).astype(np.float32)
    offset = scale.mean / scale.std * of_inputs.sum(axis=0)
    bias = (model.tensors["bias"] * cooled - offset).astype(np.float32)
    room = np.empty((CHUNK, len(weights)), np.float32)

    def guess(images: Pixels) -> Guesses:
        pixels = images.reshape(len(images), -1)
        scores = np.empty((len(images), len(bias)), np.float32)
        for start in range(0, len(images), CHUNK):
            some = pixels[start : start + CHUNK]
            floats = room[: len(some)]
            np.copyto(floats, some)
            np.matmul(floats, weights, out=scores[start : start + CHUNK])
        scores += bias
        return _of_scores(scores.T)

    return guess


def _of_any(model: Model) -> Callable[[Pixels], Guesses]:
    def guess(images: Pixels) -> Guesses:
        return _of_scores(model.log_probabilities(images).T.astype(np.float32))

    return guess


def _of_scores(scores: Floats) -> Guesses:
    """Return the guesses of scores, (classes, N): their softmax is the probability."""
    # A class a row: its numbers lie together only so, and are compared many at once.
    scores = np.ascontiguousarray(scores)
    highest = scores.max(axis=0)
    best = _place(scores, highest)
    shares = np.exp(scores - highest)
    probability = 1 / shares.sum(axis=0)
    shares[best, np.arange(len(best))] = -1
    return Guesses(best, probability, _place(shares, shares.max(axis=0)))


def _place(values: Floats, highest: Floats) -> Places:
    """Return the first row of `values`, (rows, N), that holds `highest`, (N,).

    As `values.argmax(axis=0)` does, which takes five times as long.
    """
    from_the_end = np.arange(len(values) - 1, -1, -1, dtype=np.uint8)[:, None]
    last = ((values == highest) * from_the_end).max(axis=0)
    return np.asarray(len(values) - 1 - last.astype(np.intp))
