import math

import numpy as np
import pytest

from tasks.evaluation import metrics

CLASSES = ("3", "5", "7")
LABELS = np.array([0, 0, 1, 2])
PROBABILITIES = np.array(
    [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]
)


def test_summary_of_four_images_matches_the_formulas():
    # 95 % Wilson interval of 2 in 4, with z = 1.959964.
    z2 = 1.959963985**2
    middle = (0.5 + z2 / 8) / (1 + z2 / 4)
    half = math.sqrt(z2 * (0.25 / 4 + z2 / 64)) / (1 + z2 / 4)
    assert metrics.summary(LABELS, np.log(PROBABILITIES), CLASSES) == pytest.approx(
        {
            "accuracy": 0.5,
            "accuracy_low": middle - half,
            "accuracy_high": middle + half,
            "rmse": math.sqrt((0 + 4 + 0 + 16) / 4),
            "mae": (0 + 2 + 0 + 4) / 4,
            "log_loss": math.log(2) / 2 + math.log(4) / 2,
            "ece": 0,
        },
        abs=1e-6,
    )


def test_confusion_counts_have_true_labels_in_rows():
    np.testing.assert_array_equal(
        metrics.confusion(LABELS, np.array([0, 1, 1, 0]), 3),
        [[1, 1, 0], [0, 1, 0], [1, 0, 0]],
    )


def test_precision_divides_by_columns_and_recall_by_rows():
    counts = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0]])
    scores = metrics.per_class(counts)
    np.testing.assert_allclose(scores["precision"], [0.5, 0.5, 0])
    np.testing.assert_allclose(scores["recall"], [0.5, 1, 0])


def test_reliability_of_four_predictions_matches_the_formula():
    right = np.array([True, False, True, True])
    bins = metrics.reliability(right, np.array([0.95, 0.97, 0.5, 1.0]))
    np.testing.assert_allclose(bins["confidence"], [0.5, (0.95 + 0.97 + 1) / 3])
    np.testing.assert_allclose(bins["accuracy"], [1, 2 / 3])
    assert bins["images"].tolist() == [1, 3]


def test_calibration_error_is_the_mean_distance_of_confidence_and_accuracy():
    probabilities = np.array([[0.95, 0.05], [0.97, 0.03], [0.5, 0.5]])
    found = metrics.summary(np.array([0, 1, 0]), np.log(probabilities), ("0", "1"))
    assert found["ece"] == pytest.approx((0.5 + 2 * abs(0.96 - 1 / 2)) / 3)


def test_classes_without_numeric_names_have_no_rmse_and_mae():
    names = ("cat", "dog", "7")
    found = metrics.summary(LABELS, np.log(PROBABILITIES), names)
    assert not {"rmse", "mae"} & found.keys()
    assert found["accuracy"] == 0.5


def test_predictions_below_the_threshold_are_set_aside():
    right = np.array([True, False, True, False])
    kept = metrics.selective(right, np.array([0.9, 0.8, 0.7, 0.2]), 0.7)
    assert (kept["set_aside"], kept["error"]) == (0.25, pytest.approx(1 / 3, abs=1e-7))
    assert 0 < kept["error_low"] < 1 / 3 < kept["error_high"] < 1


def test_without_a_threshold_all_predictions_are_set_aside():
    assert metrics.selective(np.array([True]), np.array([1.0]), None) == {
        "set_aside": 1,
        "error": None,
        "error_low": None,
        "error_high": None,
    }
