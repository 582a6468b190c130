"""The temperature, the curve, and the guarantee of the threshold."""

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
    """Log-probabilities of three classes, and labels drawn from them.

    Scores multiplied by `sharper` make an overconfident model.
    """
    scores = random.normal(scale=2, size=(images, 3))
    chances = np.exp(log_softmax(scores, axis=1)).cumsum(axis=1)
    labels = (random.uniform(size=(images, 1)) > chances).sum(axis=1)
    return log_softmax(scores * sharper, axis=1), np.minimum(labels, 2)


@pytest.mark.parametrize("sharper", [0.5, 1, 3])
def test_temperature_corrects_overconfidence(sharper):
    logs, labels = drawn(20_000, sharper)
    found = calibration.calibrate(logs, labels).temperature
    assert found == pytest.approx(sharper, rel=0.05)


def test_slope_of_the_log_loss_is_zero_at_the_temperature():
    logs, labels = drawn(500, 2)

    def slope(t: float) -> float:
        # d/dT of -mean(log softmax(z / T)[label]), derived by hand.
        p = np.exp(log_softmax(logs / t, axis=1))
        right = logs[np.arange(len(labels)), labels]
        return float((right - (p * logs).sum(axis=1)).mean() / t**2)

    found = calibration.calibrate(logs, labels).temperature
    assert found == pytest.approx(brentq(slope, 0.1, 10), rel=1e-4)


def test_model_without_errors_has_the_lowest_temperature():
    logs = log_softmax(np.eye(3)[[0, 1, 2] * 5], axis=1)
    found = calibration.calibrate(logs, np.array([0, 1, 2] * 5))
    assert found.temperature == pytest.approx(calibration.MIN_TEMPERATURE, rel=1e-3)
    assert found.curve[-1][1:] == (15, 0)


def test_curve_counts_predictions_and_errors_at_each_probability():
    logs, labels = drawn(1000)
    found = calibration.calibrate(logs, labels)
    logs = log_softmax(logs / found.temperature, axis=1)
    probabilities, correct = np.exp(logs.max(axis=1)), logs.argmax(axis=1) == labels
    assert len(found.curve) > 50
    for limit, accepted, wrong in found.curve:
        assert accepted == np.sum(probabilities >= limit)
        assert wrong == np.sum(~correct[probabilities >= limit])
    assert found.curve[-1][1] == 1000
    limits = [limit for limit, *_ in found.curve]
    assert limits == sorted(limits, reverse=True)


def test_calibration_survives_json():
    found = calibration.calibrate(*drawn(300))
    assert Calibration.model_validate_json(found.model_dump_json()) == found


def test_threshold_is_the_lowest_that_passes_the_binomial_test():
    measured = Calibration(
        temperature=1.0,
        images=1000,
        curve=((0.9, 500, 1), (0.8, 700, 5), (0.7, 900, 40), (0.5, 1000, 90)),
    )
    # Each of the four starts has a quarter of the risk.
    assert binom.cdf(5, 700, 0.02) < 0.0125 < binom.cdf(40, 900, 0.02)
    assert calibration.threshold(measured, 0.02) == 0.8
    assert calibration.threshold(measured, 0.12) == 0.5
    assert calibration.threshold(measured, 0.001) is None


def test_search_continues_after_a_failure_at_the_first_start():
    measured = Calibration(
        temperature=1.0, images=1000, curve=((0.99, 100, 1), (0.9, 300, 1))
    )
    assert binom.cdf(1, 100, 0.03) > 0.0125 > binom.cdf(1, 300, 0.03)
    assert calibration.threshold(measured, 0.03) == 0.9


def test_too_few_predictions_are_skipped():
    measured = Calibration(
        temperature=1.0,
        images=300,
        curve=((0.99, 35, 0), (0.9, 70, 0), (0.8, 150, 60)),
    )
    assert binom.cdf(0, 35, 0.1) > 0.0125 > binom.cdf(0, 70, 0.1)
    assert calibration.threshold(measured, 0.1) == 0.9


def test_starts_share_the_risk():
    measured = Calibration(temperature=1.0, images=200, curve=((0.9, 200, 4),))
    assert 0.0125 < binom.cdf(4, 200, 0.05) < 0.05
    assert calibration.threshold(measured, 0.05) is None


def test_lower_probabilities_are_not_tried_after_a_failure():
    measured = Calibration(
        temperature=1.0,
        images=1000,
        curve=((0.9, 800, 5), (0.8, 900, 100), (0.7, 1000, 10)),
    )
    assert calibration.threshold(measured, 0.05) == 0.9


@pytest.mark.slow
def test_error_limit_is_exceeded_no_more_often_than_the_risk():
    """For 200 validation sets, each threshold is checked on many new images."""
    random = np.random.default_rng(1)
    logs, labels = drawn(100_000, random=random)
    correct = logs.argmax(axis=1) == labels
    exceeded, thresholds = 0, 0
    for _ in range(200):
        found = calibration.calibrate(*drawn(1000, random=random))
        limit = calibration.threshold(found, 0.1)
        if limit is not None:
            thresholds += 1
            calibrated = log_softmax(logs / found.temperature, axis=1)
            probabilities = np.exp(calibrated.max(axis=1))
            exceeded += np.mean(~correct[probabilities >= limit]) > 0.1
    assert thresholds > 150
    assert exceeded <= 200 * calibration.RISK
