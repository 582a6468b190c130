"""The gate: rules that decide whether a model may become champion.

A candidate must reach fixed thresholds and must be better than the champion on the same
validation images. Images that both models classify correctly, or both wrongly, say
nothing about which is better. If the models were equally good, each other image would
be a gain or a loss with equal probability: the exact, one-sided test of McNemar (1947).
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
        min_accuracy: the smallest accuracy on validation.
        max_log_loss: the largest log loss on validation, in nats.
        max_class_drop: the most recall any class may lose against the champion.
        max_p_value: the largest p-value of the gain on the champion; 1 allows any.
    """

    min_accuracy: float = Field(ge=0, le=1)
    max_log_loss: float = Field(gt=0, allow_inf_nan=False)
    max_class_drop: float = Field(ge=0, le=1)
    max_p_value: float = Field(gt=0, le=1)


def compare(candidate: Model, champion: Model, valid: Split) -> Comparison:
    """Compare `candidate` with `champion` on the images of `valid`."""
    right, was_right = (
        model.predict(valid.images) == valid.labels for model in (candidate, champion)
    )
    gained, lost = int(np.sum(right & ~was_right)), int(np.sum(~right & was_right))
    n = gained + lost
    p_value = binomtest(gained, n, alternative="greater").pvalue if n else 1.0
    drops = {}
    for label in np.unique(valid.labels):
        members = valid.labels == label
        drops[label] = float(np.mean(was_right[members]) - np.mean(right[members]))
    dropped = max(drops, key=lambda label: drops[label])
    return Comparison(
        accuracy=float(np.mean(was_right)),
        gained=gained,
        lost=lost,
        p_value=round(float(p_value), metrics.DIGITS),
        class_drop=round(drops[dropped], metrics.DIGITS),
        dropped=candidate.description.classes[dropped],
    )


def faults(scores: dict[str, float], thresholds: Thresholds) -> list[str]:
    """Return the thresholds that a candidate with these `scores` does not reach."""
    found = []
    if scores["accuracy"] < thresholds.min_accuracy:
        found.append(
            f"its accuracy of {scores['accuracy']:.4f} is below the required "
            f"{thresholds.min_accuracy:g}"
        )
    if scores["log_loss"] > thresholds.max_log_loss:
        found.append(
            f"its log loss of {scores['log_loss']:.4f} is above the allowed "
            f"{thresholds.max_log_loss:g}"
        )
    return found


def shortfalls(compared: Comparison, thresholds: Thresholds) -> list[str]:
    """Return the ways in which a candidate is not better than the champion."""
    found = []
    if compared.class_drop > thresholds.max_class_drop:
        found.append(
            f"its recall of class {compared.dropped} is {compared.class_drop:.4f} lower"
            f", more than the allowed {thresholds.max_class_drop:g}"
        )
    balance = f"{compared.gained} images gained, {compared.lost} lost"
    if compared.gained <= compared.lost:
        found.append(
            "it is not better than the champion's accuracy of "
            f"{compared.accuracy:.4f} ({balance})"
        )
    elif compared.p_value > thresholds.max_p_value:
        found.append(
            f"its gain on the champion's accuracy of {compared.accuracy:.4f} may be "
            f"chance ({balance}: p = {compared.p_value:.2g}, above the allowed "
            f"{thresholds.max_p_value:g})"
        )
    return found


def shortfalls_by_record(scores: dict[str, float], champion: Record) -> list[str]:
    """Compare a candidate with a champion whose file is lost, by its record.

    The candidate must reach the lower bound of the recorded accuracy's interval.
    """
    accuracy, low = scores["accuracy"], champion.valid.accuracy_low
    if accuracy >= low:
        return []
    bound = f"{low:.4f}, the lower bound of the champion's"
    return [f"its accuracy of {accuracy:.4f} is below {bound}"]
