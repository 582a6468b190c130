"""Predictions agree with the model's own probabilities."""

import numpy as np
import pytest
from handmade import bars, lying, upright

from tasks.inference import classifier


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (2000, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize("link", ["softmax", "one-vs-rest"])
def test_they_are_the_two_most_probable_classes(images, link):
    model = bars()
    about = model.description.model_copy(update={"link": link})
    model = model.model_copy(update={"description": about})
    best, probability, runner_up = classifier.prepare(model, 0.01).predict(images)
    logs = model.log_probabilities(images)
    # Rounding, which differs between processors, decides where both are as probable.
    clear = np.ptp(logs, axis=1) > 1e-5
    assert clear.mean() > 0.9
    assert (best == logs.argmax(axis=1))[clear].all()
    assert (runner_up == logs.argmin(axis=1))[clear].all()
    assert probability == pytest.approx(np.exp(logs.max(axis=1)), abs=1e-5)


def test_of_equals_the_first_is_the_guess_and_the_other_the_second():
    model = bars()
    blank = np.zeros((1, 28, 28), np.uint8)
    flat = {name: 0 * values for name, values in model.tensors.items()}
    best, probability, runner_up = classifier.prepare(
        model.model_copy(update={"tensors": flat}), 0.01
    ).predict(blank)
    assert (best[0], probability[0], runner_up[0]) == (0, 0.5, 1)


def test_the_threshold_keeps_what_was_promised():
    assert classifier.prepare(bars(), 0.01).threshold == 0.9
    assert classifier.prepare(bars(wrong=500), 0.01).threshold is None
    best, *_ = classifier.prepare(bars(), 0.01).predict(np.stack([upright(), lying()]))
    assert best.tolist() == [1, 0]


def test_a_model_that_was_not_calibrated_keeps_nothing():
    model = bars()
    about = model.description.model_copy(update={"calibration": None})
    plain = classifier.prepare(model.model_copy(update={"description": about}), 0.01)
    assert (plain.temperature, plain.threshold) == (None, None)


@pytest.mark.parametrize("columns", [1, 2, 3, 8, 9, 10, 12, 17, 25])
def test_any_number_of_columns_is_multiplied(images, columns):
    random = np.random.default_rng(4)
    weights = random.normal(size=(784, columns)).astype(np.float32)
    rows = np.zeros((columns, 1000), np.float32)
    pixels = images[:1000].reshape(1000, -1)
    classifier._products(weights)(pixels, rows)
    wanted = pixels.astype(np.float64) @ weights
    assert pytest.approx(wanted, rel=1e-4, abs=0.1) == rows.T
