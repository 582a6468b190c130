"""How good a classifier's predictions are, in numbers that go into reports."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn import metrics

from tasks.dataset.splits import Split
from tasks.modeling.model_file import Model

CONFIDENCE = 0.95
BINS = 10
# Enough to tell two models apart, and no noise of the last bit.
DIGITS = 7

Labels = npt.NDArray[Any]


def summary(
    labels: Labels,
    log_probabilities: npt.NDArray[np.float64],
    class_names: tuple[str, ...],
) -> dict[str, float]:
    """Return the scalar metrics of predictions on images of one split.

    Args:
        labels: the true ones, indices into `class_names`, (N,).
        log_probabilities: (N, classes).
        class_names: by label.

    Returns:
        `accuracy` and its 95 % interval `accuracy_low` to `accuracy_high` (Wilson's
        score interval, 1927); `log_loss` in nats; `ece`, the expected calibration
        error; where all names are numbers, `rmse` and `mae` of the predicted ones,
        which the lesson printed although digits are names rather than quantities.
    """
    predictions = log_probabilities.argmax(axis=1)
    right = predictions == labels
    low, high = interval(int(right.sum()), len(labels))
    figures = {
        "accuracy": right.mean(),
        "accuracy_low": low,
        "accuracy_high": high,
        **_as_quantities(labels, predictions, class_names),
        "log_loss": metrics.log_loss(
            labels, np.exp(log_probabilities), labels=range(len(class_names))
        ),
        "ece": reliability(right, np.exp(log_probabilities.max(axis=1))).error,
    }
    return {name: round(float(figure), DIGITS) for name, figure in figures.items()}


def interval(right: int, images: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was measured, Wilson's."""
    found = binomtest(right, images).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def _as_quantities(
    labels: Labels, predictions: Labels, class_names: tuple[str, ...]
) -> dict[str, float]:
    if not all(name.isdecimal() for name in class_names):
        return {}
    values = np.array([int(name) for name in class_names])
    true, predicted = values[labels], values[predictions]
    return {
        "rmse": metrics.root_mean_squared_error(true, predicted),
        "mae": metrics.mean_absolute_error(true, predicted),
    }


def selective(
    right: npt.NDArray[np.bool_],
    probabilities: npt.NDArray[np.floating],
    threshold: float | None,
) -> dict[str, float | None]:
    """Return what becomes of predictions when the less certain are set aside.

    Args:
        right: whether each is right, (N,).
        probabilities: of the predictions, (N,).
        threshold: the probability from which on one is kept; None: none is.

    Returns:
        `set_aside`, a share of all; `error` of those that are kept, a share too, and
        its 95 % interval `error_low` to `error_high`: None if none is kept.
    """
    some = probabilities >= (np.inf if threshold is None else threshold)
    number, wrong = int(some.sum()), int((some & ~right).sum())
    low, high = interval(wrong, number) if number else (None, None)
    figures = {
        "set_aside": 1 - number / len(right),
        "error": wrong / number if number else None,
        "error_low": low,
        "error_high": high,
    }
    return {k: v if v is None else round(v, DIGITS) for k, v in figures.items()}


class Reliability(NamedTuple):
    """How probabilities compare with accuracy, bin by bin: a reliability diagram.

    Attributes:
        confidence: mean probability of the predictions, (bins,).
        accuracy: share of them that is right, (bins,).
        images: their number, (bins,); empty bins are left out.
        error: mean distance of the two, weighted by images (Naeini and others, 2015).
    """

    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    images: npt.NDArray[np.int64]
    error: float


def reliability(
    right: npt.NDArray[np.bool_], probabilities: npt.NDArray[np.floating]
) -> Reliability:
    """Put predictions into `BINS` bins of equal width by their probability.

    Args:
        right: whether each prediction is right, (N,).
        probabilities: of the predictions, (N,).
    """
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    images = np.bincount(bins, minlength=BINS)
    used = images > 0
    confidence, accuracy = (
        np.bincount(bins, values, minlength=BINS)[used] / images[used]
        for values in (probabilities, right)
    )
    error = float(np.abs(confidence - accuracy) @ images[used] / len(right))
    return Reliability(confidence, accuracy, images[used], error)


def confusion(
    labels: Labels, predictions: Labels, n_classes: int
) -> npt.NDArray[np.int64]:
    """Return how many images of each class (rows) were taken for each (columns)."""
    return np.asarray(
        metrics.confusion_matrix(labels, predictions, labels=range(n_classes))
    )


def per_class(counts: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    """Return `precision` and `recall` of each class, (classes,), of confusion counts.

    0 where a class was never predicted, or has no image.
    """
    right = np.diagonal(counts)
    return {
        "precision": right / np.maximum(counts.sum(axis=0), 1),
        "recall": right / np.maximum(counts.sum(axis=1), 1),
    }


def agreement(one: Model, other: Model, split: Split) -> dict[str, float]:
    """Return how far two models are the same.

    Returns:
        `same_predictions`: share of the images of `split` with the same prediction;
        `largest_difference` between two of their weights.
    """
    same = one.predict(split.images) == other.predict(split.images)
    difference = max(
        np.abs(values - other.tensors[name]).max()
        for name, values in one.tensors.items()
    )
    return {
        "same_predictions": round(float(same.mean()), DIGITS),
        "largest_difference": float(difference),
    }
