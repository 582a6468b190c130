"""Predictions agree with the model's own probabilities."""

import numpy as np
import pytest
from handmade import bars, lying, upright

from tasks.inference import classifier


@pytest.mark.parametrize("link", ["softmax", "one-vs-rest"])
def test_predictions_are_the_two_most_probable_classes(link):
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (2000, 28, 28), dtype=np.uint8)
    model = bars()
    description = model.description.model_copy(update={"link": link})
    model = model.model_copy(update={"description": description})
    label, probability, runner_up = classifier.prepare(model, 0.01).predict(images)
    logs = model.log_probabilities(images)
    # Rounding, which differs between processors, decides between equal probabilities.
    clear = np.ptp(logs, axis=1) > 1e-5
    assert clear.mean() > 0.9
    assert (label == logs.argmax(axis=1))[clear].all()
    assert (runner_up == logs.argmin(axis=1))[clear].all()
    assert probability == pytest.approx(np.exp(logs.max(axis=1)), abs=1e-5)


def test_the_lower_label_wins_a_tie():
    model = bars()
    blank = np.zeros((1, 28, 28), np.uint8)
    flat = {name: 0 * values for name, values in model.tensors.items()}
    label, probability, runner_up = classifier.prepare(
        model.model_copy(update={"tensors": flat}), 0.01
    ).predict(blank)
    assert (label[0], probability[0], runner_up[0]) == (0, 0.5, 1)


def test_the_threshold_limits_the_error_rate():
    assert classifier.prepare(bars(), 0.01).threshold == 0.9
    assert classifier.prepare(bars(wrong=500), 0.01).threshold is None
    labels, *_ = classifier.prepare(bars(), 0.01).predict(
        np.stack([upright(), lying()])
    )
    assert labels.tolist() == [1, 0]


def test_an_uncalibrated_model_has_no_threshold():
    model = bars()
    description = model.description.model_copy(update={"calibration": None})
    plain = classifier.prepare(
        model.model_copy(update={"description": description}), 0.01
    )
    assert (plain.temperature, plain.threshold) == (None, None)
