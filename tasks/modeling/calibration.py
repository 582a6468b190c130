"""Probabilities that mean what they say, and which predictions to set aside.

Two things are measured on the validation images, and kept with the model. The
temperature T divides the scores before the softmax, so that the log loss becomes as
small as it can (Guo and others, 2017); no prediction changes by it. The curve says how
many predictions have at least a given probability, and how many of those are wrong.
"""

import math
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.optimize import minimize_scalar
from scipy.special import bdtr, log_softmax

from tasks.runtime.params import Count, Settings

# Wherever it comes to an end, a temperature says that the model is no good.
COLDEST, HOTTEST = 0.05, 20.0
TEMPERATURE_DIGITS = 5
# Below this, two probabilities are one: they were computed with seven digits.
STEP = 1e-6
POINTS = 100
# How likely a promise may be to break.
RISK = 0.05
# Shares of the images, the most certain first, from which the search sets out.
STARTS = (0.1, 0.25, 0.5, 0.75)

Share = Annotated[float, Field(ge=0, le=1)]
Point = Annotated[tuple[Share, Count, Annotated[int, Field(ge=0)]], Field(strict=False)]


class Calibration(Settings):
    """What validation said of a model's probabilities.

    Attributes:
        temperature: that the scores are divided by.
        images: how many were measured.
        curve: a probability, how many predictions have it or more, and how many of
            those are wrong; the most certain first.
    """

    temperature: Annotated[float, Field(ge=COLDEST, le=HOTTEST)]
    images: Count
    curve: Annotated[
        tuple[Point, ...], Field(strict=False, min_length=1, max_length=2 * POINTS)
    ]


class ErrorLimit(Settings):
    """Section `evaluate` of params.yaml.

    Attributes:
        max_error: the share of the predictions kept that may be wrong.
    """

    max_error: float = Field(gt=0, lt=1)


def calibrate(
    log_probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.integer]
) -> Calibration:
    """Measure temperature and curve.

    Args:
        log_probabilities: of the model without a temperature, (N, classes).
        labels: the right columns, (N,).
    """
    rows = np.arange(len(labels))

    def log_loss(log_temperature: float) -> float:
        logs = log_softmax(log_probabilities / np.exp(log_temperature), axis=1)
        return -float(logs[rows, labels].mean())

    bounds = math.log(COLDEST), math.log(HOTTEST)
    found = minimize_scalar(log_loss, bounds=bounds, options={"xatol": 1e-7})
    # Rounded: the last digits are those of the search.
    temperature = float(f"{np.exp(found.x):.{TEMPERATURE_DIGITS}g}")
    logs = log_softmax(log_probabilities / temperature, axis=1)
    right = logs.argmax(axis=1) == labels
    return Calibration(
        temperature=min(max(temperature, COLDEST), HOTTEST),
        images=len(labels),
        curve=_curve(np.exp(logs.max(axis=1)), right),
    )


def _curve(
    probabilities: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]
) -> tuple[tuple[float, int, int], ...]:
    """Count at `POINTS` probabilities that divide the images evenly."""
    descending = np.sort(probabilities)[::-1]
    indices = np.ceil(len(right) * np.arange(1, POINTS + 1) / POINTS).astype(int) - 1
    limits = np.unique(np.floor(descending[indices] / STEP) * STEP)[::-1].round(6)
    return tuple(
        (float(limit), int(selected.sum()), int((selected & ~right).sum()))
        for limit in limits
        for selected in [probabilities >= limit]
    )


def threshold(calibration: Calibration, max_error: float) -> float | None:
    """Return the probability from which on predictions are kept.

    It keeps as many as it can while no more than the share `max_error` of those kept
    is wrong. That is a promise on images to come, of the validation images' kind: it
    breaks with a probability of `RISK` at most. From each of a few starts, growing
    shares of the images are tested one after the other, by the exact binomial test,
    until one fails (fixed sequence testing with several starts: Angelopoulos and
    others, Learn then Test, 2021).

    Returns:
        None where nothing can be promised: too many errors, or too few images.
    """
    best, risk = None, RISK / len(STARTS)
    for start in STARTS:
        for limit, selected, wrong in calibration.curve:
            # So few could not prove it, were all of them right.
            too_few = bdtr(0, selected, max_error) > risk
            if too_few or selected < start * calibration.images:
                continue
            if bdtr(wrong, selected, max_error) > risk:
                break
            best = limit if best is None else min(best, limit)
    return best
