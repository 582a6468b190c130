"""The metrics of a classifier's predictions."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn import metrics

CONFIDENCE = 0.95
BINS = 10
DIGITS = 7  # enough to distinguish two models, without the noise of the last bits

Labels = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


def summary(
    labels: Labels,
    log_probabilities: npt.NDArray[np.float64],
    class_names: tuple[str, ...],
) -> dict[str, float]:
    """Return the scalar metrics of log probabilities, (N, classes), for labels, (N,).

    Returns:
        `accuracy` and its 95 % interval `accuracy_low` to `accuracy_high`; `log_loss`
        in nats; `ece`, the expected calibration error: the mean distance of confidence
        and accuracy (Naeini and others, 2015). If all class names are numbers, also
        `rmse` and `mae` of the predicted numbers: the lesson printed them, although
        digits are names, not quantities.
    """
    predictions = log_probabilities.argmax(axis=1)
    right = predictions == labels
    low, high = interval(int(right.sum()), len(labels))
    found = {"accuracy": right.mean(), "accuracy_low": low, "accuracy_high": high}
    if all(name.isdecimal() for name in class_names):
        numbers = np.array([int(name) for name in class_names])
        true, predicted = numbers[labels], numbers[predictions]
        found["rmse"] = metrics.root_mean_squared_error(true, predicted)
        found["mae"] = metrics.mean_absolute_error(true, predicted)
    probabilities = np.exp(log_probabilities)
    classes = range(len(class_names))
    found["log_loss"] = metrics.log_loss(labels, probabilities, labels=classes)
    bins = reliability(right, np.exp(log_probabilities.max(axis=1)))
    distance = np.abs(bins["confidence"] - bins["accuracy"])
    found["ece"] = distance @ bins["images"] / len(labels)
    return {name: round(float(value), DIGITS) for name, value in found.items()}


def interval(right: int, images: int) -> tuple[float, float]:
    """Return the 95 % interval of a measured share: Wilson's score interval (1927)."""
    found = binomtest(right, images).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def selective(
    right: Bools, probabilities: npt.NDArray[np.floating], threshold: float | None
) -> dict[str, float | None]:
    """Return the metrics of the predictions, (N,), that reach a threshold.

    With the threshold None, no prediction is accepted.

    Returns:
        `set_aside`, the share of predictions below the threshold; `error`, the share
        of wrong ones among the others, and its 95 % interval `error_low` to
        `error_high`: None if no prediction is accepted.
    """
    accepted = probabilities >= (np.inf if threshold is None else threshold)
    number, wrong = int(accepted.sum()), int((accepted & ~right).sum())
    low, high = interval(wrong, number) if number else (None, None)
    found = {
        "set_aside": 1 - number / len(right),
        "error": wrong / number if number else None,
        "error_low": low,
        "error_high": high,
    }
    return {k: v if v is None else round(v, DIGITS) for k, v in found.items()}


def reliability(
    right: Bools, probabilities: npt.NDArray[np.floating]
) -> dict[str, npt.NDArray[Any]]:
    """Group predictions, (N,), by their probability into bins of equal width.

    Returns:
        `confidence`, the mean probability of the predictions, `accuracy`, the share of
        right ones, and the number of `images`, each (bins,), without empty bins.
    """
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    images = np.bincount(bins, minlength=BINS)
    used = images > 0
    confidence, accuracy = (
        np.bincount(bins, values, minlength=BINS)[used] / images[used]
        for values in (probabilities, right)
    )
    return {"confidence": confidence, "accuracy": accuracy, "images": images[used]}


def confusion(
    labels: Labels, predictions: Labels, n_classes: int
) -> npt.NDArray[np.int64]:
    """Return the number of images by true class (rows) and predicted (columns)."""
    return np.asarray(
        metrics.confusion_matrix(labels, predictions, labels=range(n_classes))
    )


def per_class(counts: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    """Return `precision` and `recall` of each class, (classes,), of confusion counts.

    They are 0 for a class that was never predicted, or has no images.
    """
    right = np.diagonal(counts)
    return {
        "precision": right / np.maximum(counts.sum(axis=0), 1),
        "recall": right / np.maximum(counts.sum(axis=1), 1),
    }
