"""The gate: thresholds, and the comparison with the champion on the same images."""

from math import comb

import numpy as np
import pytest
from conftest import facts
from pydantic import ValidationError

from tasks.dataset.splits import Split
from tasks.modeling.model_file import Description, Model
from tasks.registry import gate
from tasks.registry.champions import Comparison, Record
from tasks.registry.gate import Thresholds

THRESHOLDS = Thresholds(
    min_accuracy=0.9, max_log_loss=0.4, max_class_drop=0.05, max_p_value=0.05
)
GOOD = {"accuracy": 0.95, "log_loss": 0.2}
BY_CHANCE = "(11 images gained, 10 lost: p = 0.5, where 0.05 is allowed)"
BETTER = Comparison(
    accuracy=0.92, gained=30, lost=10, p_value=0.001, class_drop=0.01, dropped="3"
)


def says(*labels: int) -> Model:
    """A model that gives each of the four one-hot images of `IMAGES` such a label."""
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


def test_gains_losses_and_the_class_that_lost_most_are_counted():
    #                       labels: 0, 1, 2, 2
    candidate, champion = says(0, 1, 2, 0), says(1, 1, 0, 2)
    assert gate.compare(candidate, champion, VALID) == Comparison(
        accuracy=0.5, gained=2, lost=1, p_value=0.5, class_drop=0.0, dropped="1"
    )


def test_a_class_may_lose_while_the_whole_gains():
    compared = gate.compare(says(0, 0, 2, 2), says(1, 1, 0, 0), VALID)
    assert (compared.class_drop, compared.dropped) == (1.0, "1")
    assert (compared.gained, compared.lost) == (3, 1)


def test_two_models_that_say_the_same_differ_by_chance_for_certain():
    assert gate.compare(says(0, 1, 2, 2), says(0, 1, 2, 2), VALID).p_value == 1


@pytest.mark.parametrize(("gained", "lost"), [(1, 0), (6, 1), (30, 10), (10, 30)])
def test_the_p_value_is_the_tail_of_the_binomial_distribution(gained, lost):
    n = gained + lost
    tail = sum(comb(n, k) for k in range(gained, n + 1)) / 2**n
    assert gate._chance(gained, lost) == pytest.approx(tail, abs=1e-7)


def test_a_candidate_that_reaches_everything_has_no_fault():
    assert gate.faults(GOOD, THRESHOLDS) == []
    assert gate.shortfalls(BETTER, THRESHOLDS) == []


@pytest.mark.parametrize(
    ("scores", "fault"),
    [
        (
            {**GOOD, "accuracy": 0.8999},
            "its accuracy of 0.8999 is below the 0.9 asked for",
        ),
        ({**GOOD, "log_loss": 0.41}, "its log loss of 0.4100 is above the 0.4 allowed"),
    ],
)
def test_each_threshold_keeps_out_what_does_not_reach_it(scores, fault):
    assert gate.faults(scores, THRESHOLDS) == [fault]


@pytest.mark.parametrize(
    ("changes", "shortfall"),
    [
        (
            {"class_drop": 0.051, "dropped": "5"},
            "it loses 0.0510 of the recall of class 5, where 0.05 is allowed",
        ),
        (
            {"gained": 10, "lost": 30, "p_value": 0.9995},
            "it is no better than the champion's 0.9200 (10 images gained, 30 lost)",
        ),
        (
            {"gained": 10, "lost": 10, "p_value": 0.04},
            "it is no better than the champion's 0.9200 (10 images gained, 10 lost)",
        ),
        (
            {"gained": 11, "lost": 10, "p_value": 0.5},
            f"its gain on the champion's 0.9200 may be chance {BY_CHANCE}",
        ),
    ],
)
def test_each_shortfall_against_the_champion_is_told(changes, shortfall):
    compared = BETTER.model_copy(update=changes)
    assert gate.shortfalls(compared, THRESHOLDS) == [shortfall]


def test_where_any_gain_may_pass_chance_is_not_asked():
    lenient = THRESHOLDS.model_copy(update={"max_p_value": 1.0})
    lucky = BETTER.model_copy(update={"gained": 11, "lost": 10, "p_value": 0.5})
    assert gate.shortfalls(lucky, lenient) == []


def test_a_champion_that_is_lost_is_compared_by_its_interval(record: Record):
    assert gate.shortfalls_unseen({"accuracy": 0.91349}, record) == []
    place = "the interval of the champion's, which begins at 0.9135"
    assert gate.shortfalls_unseen({"accuracy": 0.9034}, record) == [
        f"its accuracy of 0.9034 is below {place}"
    ]


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
def test_thresholds_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Thresholds.model_validate({**THRESHOLDS.model_dump(), **wrong})
