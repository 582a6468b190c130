import itertools

import numpy as np
import pandas as pd
import pytest

from tasks.reporting import charts

COLOURS = {"a": "#000001", "b": "#000002"}


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_bars_show_shares_of_a_split():
    axes = charts.counts(
        {"train": np.array([1, 3]), "test": np.array([2, 2])}, ["5", "7"]
    )
    heights = [bar.get_height() for bars in axes.containers for bar in bars]
    assert heights == [25, 75, 50, 50]
    assert texts(axes) == ["train: 4", "test: 4"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["5", "7"]


def test_mean_pixels_are_drawn_as_quantiles():
    values = np.arange(101.0)
    axes = charts.mean_pixels({"4": values, "9": values + 10}, 255)
    (middles,) = axes.lines
    assert middles.get_ydata().tolist() == [50, 60]
    thin, thick = axes.collections
    assert thin.get_segments()[0][:, 1].tolist() == [5, 95]
    assert thick.get_segments()[0][:, 1].tolist() == [25, 75]


def test_loss_curves_are_running_means_with_a_label_at_the_end():
    values = np.linspace(2, 1, 100)
    axes = charts.losses({"a": values}, COLOURS, np.log(10), {"then": 2.4})
    line = axes.lines[0]
    assert line.get_ydata()[0] == pytest.approx(values[:20].mean())
    assert line.get_xdata()[[0, -1]].tolist() == [20, 100]
    assert texts(axes)[:2] == ["uniform guess: ln 10 = 2.30", "then"]
    assert texts(axes)[2].startswith("a  1.")
    assert axes.get_ylim()[1] > 2.4


def test_accuracies_are_drawn_by_epoch():
    axes = charts.accuracies({"a": np.array([0.8, 0.9])}, COLOURS, {"then": 0.85})
    assert axes.lines[0].get_xdata().tolist() == [1, 2]
    assert texts(axes) == ["then  0.8500", "a  0.9000"]


def test_differences_are_centred_at_zero():
    axes = charts.differences({"a": np.zeros(5), "b": np.full(5, 1e-3)}, COLOURS)
    low, high = axes.get_ylim()
    assert low == -high
    assert high >= 1e-3
    assert {name.get_text() for name in axes.texts} == {"a", "b"}


def test_confusion_matrix_leaves_zeros_blank():
    axes = charts.confusion(np.array([[5, 0], [2, 3]]), ("0", "1"))
    assert [text for text in texts(axes) if text] == ["5", "2", "3"]


def test_reliability_points_are_the_bins():
    confidence, accuracy = np.array([0.5, 0.9]), np.array([0.4, 0.95])
    axes = charts.reliability(confidence, accuracy, np.array([10, 90]))
    (points,) = axes.collections
    np.testing.assert_allclose(points.get_offsets(), np.c_[confidence, accuracy])
    small, large = points.get_sizes()
    assert small < large


def test_most_certain_predictions_are_accepted_first():
    right = np.array([True] * 90 + [False] * 10)
    axes = charts.selective_accuracy({"a": right}, COLOURS, 0.5)
    share, accuracy = axes.lines[0].get_data()
    at = dict(zip(share.round().astype(int).tolist(), accuracy, strict=True))
    assert at[90] == 1
    assert at[100] == 0.9


def test_short_loss_curves_are_averaged_over_half_their_length():
    losses = {"sgd": np.array([3.0, 2.0, 1.0, 0.0])}

    axes = charts.losses(losses, {"sgd": "black"}, 2.3, {})

    (line,) = (line for line in axes.lines if line.get_color() == "black")
    assert line.get_xydata().tolist() == [[2, 2.5], [3, 1.5], [4, 0.5]]
    assert axes.get_ylabel() == "loss, nats (mean of 2)"
    assert "sgd  1.000" in {text.get_text() for text in axes.texts}


def test_sweep_has_a_labelled_line_per_variant_and_batch_size():
    settings = itertools.product(["a", "b"], [0.01, 0.1], [32, 64])
    table = pd.DataFrame(settings, columns=["variant", "learning_rate", "batch_size"])
    table["mean"] = [0.9, 0.8, 0.91, np.nan, np.nan, 0.7, np.nan, 0.71]
    table["sd"] = np.nan
    axes = charts.sweep(table, {"a": "sgd", "b": "adam"}, ["#000001", "#000002"])
    assert set(texts(axes)) == {"a, 32 (sgd)", "a, 64 (sgd)", "b, 64 (adam)"}
    lines = {container[0].get_color() for container in axes.containers}
    assert lines == {"#000001", "#000002"}
    assert axes.get_xscale() == "log"
