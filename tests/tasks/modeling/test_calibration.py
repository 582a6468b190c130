"""The temperature, the curve, and the promise of the threshold."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import log_softmax
from scipy.stats import binom

from tasks.modeling import calibration
from tasks.modeling.calibration import Calibration

RANDOM = np.random.default_rng(0)


def drawn(
    images: int, sharper: float = 1, random: np.random.Generator = RANDOM
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of three classes, and labels drawn from their probabilities.

    The scores are then made `sharper`, as those of a model that is too sure.
    """
    scores = random.normal(scale=2, size=(images, 3))
    chances = np.exp(log_softmax(scores, axis=1)).cumsum(axis=1)
    labels = (random.uniform(size=(images, 1)) > chances).sum(axis=1)
    return log_softmax(scores * sharper, axis=1), np.minimum(labels, 2)


@pytest.mark.parametrize("sharper", [0.5, 1, 3])
def test_the_temperature_undoes_what_made_a_model_too_sure(sharper):
    logs, labels = drawn(20_000, sharper)
    found = calibration.calibrate(logs, labels).temperature
    assert found == pytest.approx(sharper, rel=0.05)


def test_the_temperature_is_where_the_slope_of_the_log_loss_is_zero():
    logs, labels = drawn(500, 2)

    def slope(t: float) -> float:
        # d/dT of -mean(log softmax(z / T)[label]), derived by hand.
        p = np.exp(log_softmax(logs / t, axis=1))
        right = logs[np.arange(len(labels)), labels]
        return float((right - (p * logs).sum(axis=1)).mean() / t**2)

    found = calibration.calibrate(logs, labels).temperature
    assert found == pytest.approx(brentq(slope, 0.1, 10), rel=1e-4)


def test_a_model_that_is_always_right_ends_at_the_coldest():
    logs = log_softmax(np.eye(3)[[0, 1, 2] * 5], axis=1)
    found = calibration.calibrate(logs, np.array([0, 1, 2] * 5))
    assert found.temperature == pytest.approx(calibration.COLDEST, rel=1e-3)
    assert found.curve[-1][1:] == (15, 0)


def test_the_curve_counts_the_predictions_from_a_probability_on():
    logs, labels = drawn(1000)
    found = calibration.calibrate(logs, labels)
    logs = log_softmax(logs / found.temperature, axis=1)
    sure, right = np.exp(logs.max(axis=1)), logs.argmax(axis=1) == labels
    assert len(found.curve) > 50
    for limit, kept, wrong in found.curve:
        assert kept == np.sum(sure >= limit)
        assert wrong == np.sum(~right[sure >= limit])
    assert found.curve[-1][1] == 1000
    limits = [limit for limit, *_ in found.curve]
    assert limits == sorted(limits, reverse=True)


def test_what_was_measured_survives_json():
    found = calibration.calibrate(*drawn(300))
    assert Calibration.model_validate_json(found.model_dump_json()) == found


def test_the_threshold_keeps_as_many_as_the_binomial_test_lets_pass():
    made = Calibration(
        temperature=1.0,
        images=1000,
        curve=((0.9, 500, 1), (0.8, 700, 5), (0.7, 900, 40), (0.5, 1000, 90)),
    )
    # Every start is tested with a fourth of the risk.
    assert binom.cdf(5, 700, 0.02) < 0.0125 < binom.cdf(40, 900, 0.02)
    assert calibration.threshold(made, 0.02) == 0.8
    assert calibration.threshold(made, 0.12) == 0.5
    assert calibration.threshold(made, 0.001) is None


def test_a_failure_among_the_surest_does_not_end_the_search():
    made = Calibration(
        temperature=1.0, images=1000, curve=((0.99, 100, 1), (0.9, 300, 1))
    )
    assert binom.cdf(1, 100, 0.03) > 0.0125 > binom.cdf(1, 300, 0.03)
    assert calibration.threshold(made, 0.03) == 0.9


def test_images_too_few_to_prove_anything_are_passed_over():
    made = Calibration(
        temperature=1.0,
        images=300,
        curve=((0.99, 35, 0), (0.9, 70, 0), (0.8, 150, 60)),
    )
    assert binom.cdf(0, 35, 0.1) > 0.0125 > binom.cdf(0, 70, 0.1)
    assert calibration.threshold(made, 0.1) == 0.9


def test_the_risk_is_shared_by_the_starts():
    made = Calibration(temperature=1.0, images=200, curve=((0.9, 200, 4),))
    assert 0.0125 < binom.cdf(4, 200, 0.05) < 0.05
    assert calibration.threshold(made, 0.05) is None


def test_after_a_failure_nothing_more_is_tried():
    made = Calibration(
        temperature=1.0,
        images=1000,
        curve=((0.9, 800, 5), (0.8, 900, 100), (0.7, 1000, 10)),
    )
    assert calibration.threshold(made, 0.05) == 0.9


def test_the_promise_breaks_as_seldom_as_it_says():
    """Of 200 sets of validation images, on as many new ones as make chance small."""
    random = np.random.default_rng(1)
    logs, labels = drawn(100_000, random=random)
    right = logs.argmax(axis=1) == labels
    broken, kept = 0, 0
    for _ in range(200):
        found = calibration.calibrate(*drawn(1000, random=random))
        limit = calibration.threshold(found, 0.1)
        if limit is not None:
            kept += 1
            calibrated = log_softmax(logs / found.temperature, axis=1)
            sure = np.exp(calibrated.max(axis=1))
            broken += np.mean(~right[sure >= limit]) > 0.1
    assert kept > 150
    assert broken <= 200 * calibration.RISK
