"""How good a classifier's predictions are, in numbers that go into reports."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn import metrics

from tasks.models import Model
from tasks.splits import Split

CONFIDENCE = 0.95
BINS = 10
# Enough to tell two models apart, and no noise of the last bit.
DIGITS = 7

Labels = npt.NDArray[Any]


def summary(
    labels: Labels, log_probabilities: npt.NDArray[np.float64], classes: tuple[int, ...]
) -> dict[str, float]:
    """Return the scalar metrics of predictions on images of one split.

    Args:
        labels: the true ones, (N,).
        log_probabilities: (N, classes).
        classes: the label of each column.

    Returns:
        `accuracy` and its 95 % interval `accuracy_low` to `accuracy_high` (Wilson's
        score interval, 1927); `rmse` and `mae` of predicted digits, which the lesson
        printed although digits are names rather than quantities; `log_loss` in nats;
        `ece`, the expected calibration error.
    """
    predictions = np.array(classes)[log_probabilities.argmax(axis=1)]
    right = int(np.sum(predictions == labels))
    interval = binomtest(right, len(labels)).proportion_ci(CONFIDENCE, method="wilson")
    figures = {
        "accuracy": right / len(labels),
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "rmse": metrics.root_mean_squared_error(labels, predictions),
        "mae": metrics.mean_absolute_error(labels, predictions),
        "log_loss": metrics.log_loss(
            labels, np.exp(log_probabilities), labels=list(classes)
        ),
        "ece": calibration(
            predictions == labels, np.exp(log_probabilities.max(axis=1))
        ).error,
    }
    return {name: round(float(figure), DIGITS) for name, figure in figures.items()}


class Calibration(NamedTuple):
    """How probabilities compare with the shares that are right, bin by bin.

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


def calibration(
    right: npt.NDArray[np.bool_], probabilities: npt.NDArray[np.floating]
) -> Calibration:
    """Put predictions into `BINS` bins of equal width by their probability.

    Args:
        right: whether each prediction is right, (N,).
        probabilities: of the predictions, (N,).
    """
    places = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    images = np.bincount(places, minlength=BINS)
    used = images > 0
    confidence, accuracy = (
        np.bincount(places, values, minlength=BINS)[used] / images[used]
        for values in (probabilities, right)
    )
    error = float(np.abs(confidence - accuracy) @ images[used] / len(right))
    return Calibration(confidence, accuracy, images[used], error)


def confusion(
    labels: Labels, predictions: Labels, classes: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """Return how many images of each class (rows) were taken for each (columns)."""
    return np.asarray(
        metrics.confusion_matrix(labels, predictions, labels=list(classes))
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
        np.abs(one.weights - other.weights).max(), np.abs(one.bias - other.bias).max()
    )
    return {
        "same_predictions": round(float(same.mean()), DIGITS),
        "largest_difference": float(difference),
    }
