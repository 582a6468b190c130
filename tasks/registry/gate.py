"""The gate: whether a model may become champion.

A candidate must reach thresholds of its own, and must be better than the champion on
the same validation images. The images on which both are right, or both wrong, say
nothing about which is better. Were the two equally good, each of the others would be a
gain or a loss with the same chance: the exact, one-sided form of the test of McNemar
(1947).
"""

import numpy as np
from pydantic import Field
from scipy.stats import binomtest

from tasks.dataset.splits import Split
from tasks.evaluation import metrics
from tasks.modeling.model_file import Model
from tasks.registry.champions import Comparison, Record
from tasks.runtime.params import Settings


class Thresholds(Settings):
    """Section `promote` of params.yaml.

    Attributes:
        min_accuracy: of the candidate, on validation.
        max_log_loss: of the candidate, on validation, in nats.
        max_class_drop: how much recall any class may lose against the champion.
        max_p_value: how likely the candidate's gain may be by chance; 1 lets any pass.
    """

    min_accuracy: float = Field(ge=0, le=1)
    max_log_loss: float = Field(gt=0, allow_inf_nan=False)
    max_class_drop: float = Field(ge=0, le=1)
    max_p_value: float = Field(gt=0, le=1)


def compare(candidate: Model, champion: Model, valid: Split) -> Comparison:
    """Return how `candidate` does beside `champion` on the images of `valid`."""
    right, was_right = (
        model.predict(valid.images) == valid.labels for model in (candidate, champion)
    )
    gained, lost = int(np.sum(right & ~was_right)), int(np.sum(~right & was_right))
    drops = {
        int(label): float(np.mean(was_right[here]) - np.mean(right[here]))
        for label in np.unique(valid.labels)
        if (here := valid.labels == label).any()
    }
    dropped = max(drops, key=lambda label: drops[label])
    names = candidate.description.classes
    return Comparison(
        accuracy=float(np.mean(was_right)),
        gained=gained,
        lost=lost,
        p_value=_chance(gained, lost),
        class_drop=round(drops[dropped], metrics.DIGITS),
        dropped=names[dropped],
    )


def _chance(gained: int, lost: int) -> float:
    if gained + lost == 0:
        return 1.0
    test = binomtest(gained, gained + lost, 0.5, alternative="greater")
    return round(float(test.pvalue), metrics.DIGITS)


def faults(scores: dict[str, float], thresholds: Thresholds) -> list[str]:
    """Return what keeps a candidate with these `scores` out, whoever is champion."""
    found = []
    if scores["accuracy"] < thresholds.min_accuracy:
        found.append(
            f"its accuracy of {scores['accuracy']:.4f} is below the "
            f"{thresholds.min_accuracy:g} asked for"
        )
    if scores["log_loss"] > thresholds.max_log_loss:
        found.append(
            f"its log loss of {scores['log_loss']:.4f} is above the "
            f"{thresholds.max_log_loss:g} allowed"
        )
    return found


def shortfalls(compared: Comparison, thresholds: Thresholds) -> list[str]:
    """Return in what a candidate falls short of the champion."""
    found = []
    if compared.class_drop > thresholds.max_class_drop:
        found.append(
            f"it loses {compared.class_drop:.4f} of the recall of class "
            f"{compared.dropped}, where {thresholds.max_class_drop:g} is allowed"
        )
    balance = f"{compared.gained} images gained, {compared.lost} lost"
    if compared.gained <= compared.lost:
        found.append(
            f"it is no better than the champion's {compared.accuracy:.4f} ({balance})"
        )
    elif compared.p_value > thresholds.max_p_value:
        found.append(
            f"its gain on the champion's {compared.accuracy:.4f} may be chance "
            f"({balance}: p = {compared.p_value:.2g}, where {thresholds.max_p_value:g} "
            "is allowed)"
        )
    return found


def shortfalls_unseen(scores: dict[str, float], champion: Record) -> list[str]:
    """Return in what a candidate falls short of a champion whose file is lost.

    No image can be compared then: it must reach the interval of what is recorded.
    """
    accuracy, low = scores["accuracy"], champion.valid.accuracy_low
    if accuracy >= low:
        return []
    reference = f"the interval of the champion's, which begins at {low:.4f}"
    return [f"its accuracy of {accuracy:.4f} is below {reference}"]
