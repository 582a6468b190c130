"""Calibrated probabilities, and the threshold below which predictions are set aside.

Both are measured on the validation images and stored with the model. The temperature T
divides the scores before the softmax, such that the log loss is smallest (Guo and
others, 2017); it changes no prediction. The curve counts the predictions that have at
least a given probability, and the wrong ones among them.
"""

import math
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.optimize import minimize_scalar
from scipy.special import bdtr, log_softmax

from tasks.runtime.params import Count, Settings

# A temperature at either limit means that the model is useless.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
TEMPERATURE_DIGITS = 5  # the search is not more precise
STEP = 1e-6  # probabilities that differ by less are equal: they have seven digits
POINTS = 100
# The accepted probability that the error rate of new images exceeds its limit.
RISK = 0.05
# Shares of the images, the most certain first, at which the search starts.
STARTS = (0.1, 0.25, 0.5, 0.75)

Share = Annotated[float, Field(ge=0, le=1)]
Point = Annotated[tuple[Share, Count, Annotated[int, Field(ge=0)]], Field(strict=False)]


class Calibration(Settings):
    """The calibration of a model.

    Attributes:
        temperature: divides the scores.
        images: number of validation images.
        curve: probability, number of predictions with at least this probability, and
            number of wrong ones among them; the highest probability first.
    """

    temperature: Annotated[float, Field(ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)]
    images: Count
    curve: Annotated[
        tuple[Point, ...], Field(strict=False, min_length=1, max_length=2 * POINTS)
    ]


class ErrorLimit(Settings):
    """Section `evaluate` of params.yaml: the largest error rate of what is accepted."""

    max_error: float = Field(gt=0, lt=1)


def calibrate(
    log_probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.integer]
) -> Calibration:
    """Measure the calibration of log-probabilities (N, classes) by the labels (N,)."""
    rows = np.arange(len(labels))

    def log_loss(log_temperature: float) -> float:
        logs = log_softmax(log_probabilities / np.exp(log_temperature), axis=1)
        return -float(logs[rows, labels].mean())

    bounds = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    found = minimize_scalar(log_loss, bounds=bounds, options={"xatol": 1e-7})
    temperature = float(f"{np.exp(found.x):.{TEMPERATURE_DIGITS}g}")
    logs = log_softmax(log_probabilities / temperature, axis=1)
    correct = logs.argmax(axis=1) == labels
    return Calibration(
        temperature=min(max(temperature, MIN_TEMPERATURE), MAX_TEMPERATURE),
        images=len(labels),
        curve=_curve(np.exp(logs.max(axis=1)), correct),
    )


def _curve(
    probabilities: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_]
) -> tuple[tuple[float, int, int], ...]:
    """Count at the quantiles of the probabilities, `POINTS` of them."""
    descending = np.sort(probabilities)[::-1]
    ranks = np.ceil(len(correct) * np.arange(1, POINTS + 1) / POINTS).astype(int)
    limits = np.unique(np.floor(descending[ranks - 1] / STEP) * STEP)[::-1].round(6)
    return tuple(
        (float(limit), int(accepted.sum()), int((accepted & ~correct).sum()))
        for limit in limits
        for accepted in [probabilities >= limit]
    )


def threshold(calibration: Calibration, max_error: float) -> float | None:
    """Return the lowest probability at which predictions are accepted.

    At most the share `max_error` of the accepted predictions is wrong, for images like
    the validation images, except with probability `RISK`. The search starts at several
    shares of the images, and from each tests growing shares by the exact binomial test
    until one fails (fixed sequence testing with several starts: Angelopoulos and
    others, Learn then Test, 2021).

    Returns:
        None if no threshold guarantees that: too many errors, or too few images.
    """
    best, risk = None, RISK / len(STARTS)
    for start in STARTS:
        for limit, accepted, wrong in calibration.curve:
            # Too few to pass the test, even without an error.
            too_few = bdtr(0, accepted, max_error) > risk
            if too_few or accepted < start * calibration.images:
                continue
            if bdtr(wrong, accepted, max_error) > risk:
                break
            best = limit if best is None else min(best, limit)
    return best
