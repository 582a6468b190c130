import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from tasks import figures

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (8, 28, 28), dtype=np.uint8)
LABELS = np.arange(8)


def all_figures() -> dict:
    return {
        "digit": figures.digit(IMAGES[0], 5),
        "crop": figures.crop(IMAGES[0], slice(10, 15), slice(10, 15)),
        "predictions": figures.predictions(
            IMAGES, LABELS, {"one": LABELS, "other": LABELS[::-1]}
        ),
        "losses": figures.losses(
            {"a": np.linspace(2, 1, 100), "b": np.linspace(2, 1, 100)}
        ),
        "weights": figures.weights(
            {"a": RANDOM.normal(size=(784, 10)), "b": np.zeros((784, 10))}, (28, 28)
        ),
        "confusion": figures.confusion(np.eye(3, dtype=int) * 7, (3, 5, 7), "title"),
    }


@pytest.mark.parametrize("name", all_figures())
def test_a_figure_is_a_png_without_a_date_or_a_version(name):
    content = figures.png(all_figures()[name])
    assert content.startswith(b"\x89PNG")
    chunks, at = [], 8
    while at < len(content):
        size, kind = struct.unpack(">I4s", content[at : at + 8])
        chunks.append(kind)
        at += size + 12
    assert set(chunks) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def test_the_same_figure_gives_the_same_bytes_in_any_process():
    program = (
        "import sys; sys.path[:0] = ['.', 'tests']; import hashlib, test_figures as t;"
        "print([hashlib.sha256(t.figures.png(f)).hexdigest()"
        " for f in t.all_figures().values()])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def texts(figure) -> list[str]:
    return [
        text.get_text()
        for axes in figure.axes
        for text in [*axes.texts, axes.title]
        if text.get_text()
    ]


def test_a_crop_shows_its_values():
    written = texts(figures.crop(IMAGES[0], slice(10, 12), slice(3, 5)))
    values = [str(value) for value in IMAGES[0][10:12, 3:5].ravel()]
    assert written == [*values, "Its rows 10 to 11, columns 3 to 4"]


def test_predictions_stand_above_each_image_and_wrong_ones_stand_out():
    figure = figures.predictions(IMAGES, LABELS, {"wrong": LABELS + 1})
    first = figure.axes[0].texts
    drawn = [(t.get_text(), t.get_fontweight()) for t in first]
    assert drawn[:2] == [("1", "bold"), ("0", "normal")]
    assert [text for text, _ in drawn[2:]] == ["wrong", "the label"]


def test_a_loss_curve_is_a_running_mean_with_its_name_at_its_end():
    values = np.linspace(2, 1, 100)
    figure = figures.losses({"a": values})
    (line,) = figure.axes[0].lines
    assert line.get_ydata()[0] == pytest.approx(values[:20].mean())
    assert line.get_xdata()[[0, -1]].tolist() == [20, 100]
    assert texts(figure)[0].startswith("a  1.")


def test_names_at_the_ends_of_curves_do_not_cover_each_other():
    figure = figures.losses({name: np.linspace(2, 1, 100) for name in "abc"})
    heights = sorted(text.xyann[1] for text in figure.axes[0].texts)
    assert np.diff(heights).min() > 0.04 * figure.axes[0].get_ylim()[1]


def test_confusion_shows_every_count_but_zero():
    counts = np.array([[5, 0], [2, 3]])
    assert texts(figures.confusion(counts, (0, 1), "t")) == ["5", "2", "3"]
