"""The gate: thresholds, and the comparison with the champion on the same images."""

from math import comb

import numpy as np
import pytest
from pydantic import ValidationError
from samples import facts

from tasks.dataset.splits import Split
from tasks.modeling.model_file import Description, Model
from tasks.registry import gate
from tasks.registry.champions import Comparison, Record
from tasks.registry.gate import Thresholds

THRESHOLDS = Thresholds(
    min_accuracy=0.9, max_log_loss=0.4, max_class_drop=0.05, max_p_value=0.05
)
GOOD = {"accuracy": 0.95, "log_loss": 0.2}
BETTER = Comparison(
    accuracy=0.92, gained=30, lost=10, p_value=0.001, class_drop=0.01, dropped="3"
)


def predicting(*labels: int) -> Model:
    """Return a model that predicts these labels for the four one-hot `IMAGES`."""
    weights = np.zeros((4, 3), dtype=np.float32)
    weights[range(4), labels] = 1000
    return Model(
        tensors={"weights": weights, "bias": np.zeros(3, dtype=np.float32)},
        description=Description(
            **dict(facts((2, 2), 3, mean=0.0, std=1.0)), link="softmax", parameters={}
        ),
    )


IMAGES = (np.eye(4, dtype=np.uint8) * 255).reshape(4, 2, 2)
VALID = Split(IMAGES, np.array([0, 1, 2, 2], dtype=np.uint8))


def test_comparison_counts_gains_losses_and_the_class_that_lost_most():
    #                       labels: 0, 1, 2, 2
    candidate, champion = predicting(0, 1, 2, 0), predicting(1, 1, 0, 2)
    assert gate.compare(candidate, champion, VALID) == Comparison(
        accuracy=0.5, gained=2, lost=1, p_value=0.5, class_drop=0.0, dropped="1"
    )


def test_a_class_can_lose_recall_while_accuracy_rises():
    compared = gate.compare(predicting(0, 0, 2, 2), predicting(1, 1, 0, 0), VALID)
    assert (compared.class_drop, compared.dropped) == (1.0, "1")
    assert (compared.gained, compared.lost) == (3, 1)


def test_equal_predictions_have_a_p_value_of_one():
    assert (
        gate.compare(predicting(0, 1, 2, 2), predicting(0, 1, 2, 2), VALID).p_value == 1
    )


def constant(label: int, inputs: int) -> Model:
    """Return a model that predicts `label` for every image of a row of pixels."""
    bias = np.zeros(2, np.float32)
    bias[label] = 1
    return Model(
        tensors={"weights": np.zeros((inputs, 2), np.float32), "bias": bias},
        description=Description(
            **dict(facts((1, inputs), 2)), link="softmax", parameters={}
        ),
    )


@pytest.mark.parametrize(("gained", "lost"), [(1, 0), (6, 1), (30, 10), (10, 30)])
def test_the_p_value_is_the_tail_of_the_binomial_distribution(gained, lost):
    n = gained + lost
    tail = sum(comb(n, k) for k in range(gained, n + 1)) / 2**n
    images = np.eye(n, dtype=np.uint8).reshape(n, 1, n) * 255
    valid = Split(images, np.array([0] * gained + [1] * lost, np.uint8))
    candidate, champion = constant(0, n), constant(1, n)
    compared = gate.compare(candidate, champion, valid)
    assert (compared.gained, compared.lost) == (gained, lost)
    assert compared.p_value == pytest.approx(tail, abs=1e-7)


def test_a_good_candidate_passes():
    assert gate.faults(GOOD, THRESHOLDS) == []
    assert gate.shortfalls(BETTER, THRESHOLDS) == []


@pytest.mark.parametrize(
    ("scores", "fault"),
    [
        (
            {**GOOD, "accuracy": 0.8999},
            "its accuracy of 0.8999 is below the required 0.9",
        ),
        ({**GOOD, "log_loss": 0.41}, "its log loss of 0.4100 is above the allowed 0.4"),
    ],
)
def test_candidates_below_a_threshold_are_refused(scores, fault):
    assert gate.faults(scores, THRESHOLDS) == [fault]


@pytest.mark.parametrize(
    ("changes", "shortfall"),
    [
        (
            {"class_drop": 0.051, "dropped": "5"},
            "its recall of class 5 is 0.0510 lower",
        ),
        (
            {"gained": 10, "lost": 30, "p_value": 0.9995},
            "not better than the champion's accuracy of 0.9200 (10 images gained, 30",
        ),
        (
            {"gained": 10, "lost": 10, "p_value": 0.04},
            "not better than the champion's accuracy of 0.9200 (10 images gained, 10",
        ),
        (
            {"gained": 11, "lost": 10, "p_value": 0.5},
            "may be chance (11 images gained, 10 lost: p = 0.5, above the allowed",
        ),
    ],
)
def test_candidates_that_are_not_better_are_refused(changes, shortfall):
    compared = BETTER.model_copy(update=changes)
    (reason,) = gate.shortfalls(compared, THRESHOLDS)
    assert shortfall in reason


def test_a_p_value_limit_of_one_allows_any_gain():
    lenient = THRESHOLDS.model_copy(update={"max_p_value": 1.0})
    lucky = BETTER.model_copy(update={"gained": 11, "lost": 10, "p_value": 0.5})
    assert gate.shortfalls(lucky, lenient) == []


def test_a_lost_champion_is_compared_by_its_recorded_interval(record: Record):
    assert gate.shortfalls_by_record({"accuracy": 0.91349}, record) == []
    (reason,) = gate.shortfalls_by_record({"accuracy": 0.9034}, record)
    assert "0.9034 is below 0.9135, the lower bound" in reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_accuracy": 1.1},
        {"max_log_loss": 0},
        {"max_log_loss": float("inf")},
        {"max_class_drop": -0.1},
        {"max_p_value": 0},
        {"min_accurracy": 0.9},
    ],
)
def test_invalid_thresholds_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Thresholds.model_validate({**THRESHOLDS.model_dump(), **wrong})
