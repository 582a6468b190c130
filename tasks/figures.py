"""The lesson's pictures, as matplotlib figures.

Every function takes arrays and returns a `Figure`; `png` gives its bytes, the same for
the same figure: no date, no version in them.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.splits import Floats, Pixels

DPI = 100
# Okabe and Ito's palette (2008), told apart by the colour-blind too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Batches that one point of a loss curve is the mean of.
SMOOTHED_OVER = 20

Values = npt.NDArray[np.float64]


def png(figure: Figure) -> bytes:
    """Return `figure` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def digit(image: Pixels, label: int) -> Figure:
    """Draw one image, (rows, columns), with its label."""
    figure, axes = _axes(4, 4.3)
    _image(axes, image)
    axes.set_title(f"The first training image: a {label}")
    return figure


def crop(image: Pixels, rows: slice, columns: slice) -> Figure:
    """Draw a part of `image`, (rows, columns), each pixel with its value."""
    figure, axes = _axes(4, 4.3)
    part = image[rows, columns]
    _image(axes, part, brightest=int(image.max()))
    for (row, column), value in np.ndenumerate(part):
        ink = "black" if value < image.max() / 2 else "white"
        axes.text(column, row, str(value), ha="center", va="center", color=ink)
    axes.set_title(
        f"Its rows {rows.start} to {rows.stop - 1}, "
        f"columns {columns.start} to {columns.stop - 1}"
    )
    return figure


def predictions(
    images: Pixels, labels: npt.NDArray[Any], predicted: Mapping[str, npt.NDArray[Any]]
) -> Figure:
    """Draw images, (N, rows, columns), below what each model takes them for.

    Args:
        images: the images.
        labels: their true labels, (N,).
        predicted: of each model, by name, its predictions, (N,).
    """
    # A line a model, and one for the truth.
    height = 1.2 + 0.19 * (len(predicted) + 1)
    figure = _figure(1.15 * len(images) + 1.6, height)
    left, top = 1.6 / figure.get_figwidth(), 1.05 / height
    grid = figure.subplots(1, len(images))
    figure.subplots_adjust(left=left, right=0.99, bottom=0.03, top=top, wspace=0.1)
    lines = {"the label": labels, **predicted}
    for number, axes in enumerate(grid):
        _image(axes, images[number])
        for line, values in enumerate(reversed(lines.values())):
            wrong = values[number] != labels[number]
            axes.annotate(
                str(values[number]),
                (0.5, 1),
                xytext=(0, 4 + 13 * line),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=COLOURS[1] if wrong else "black",
                fontweight="bold" if wrong else "normal",
            )
    for line, name in enumerate(reversed(lines)):
        grid[0].annotate(
            name,
            (0, 1),
            xytext=(-8, 4 + 13 * line),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
    return figure


def losses(by_model: Mapping[str, Values]) -> Figure:
    """Draw each model's loss per batch, (batches,), as a running mean, by its name."""
    figure, axes = _axes(8, 4.5)
    window = np.ones(SMOOTHED_OVER) / SMOOTHED_OVER
    ends = []
    for number, (name, values) in enumerate(by_model.items()):
        colour = COLOURS[number % len(COLOURS)]
        smooth = np.convolve(values, window, mode="valid")
        axes.plot(np.arange(len(smooth)) + SMOOTHED_OVER, smooth, color=colour, lw=1.2)
        ends.append((float(smooth[-SMOOTHED_OVER:].mean()), name, colour))
    _label_ends(axes, ends)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, max(len(values) for values in by_model.values()))
    axes.set_xlabel("batch")
    axes.set_ylabel("loss, nats")
    axes.set_title(f"Loss, mean of {SMOOTHED_OVER} batches", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.subplots_adjust(left=0.08, right=0.78, bottom=0.12, top=0.92)
    return figure


def weights(by_model: Mapping[str, Floats], shape: tuple[int, int]) -> Figure:
    """Draw the weights of every class as an image, a row a model.

    Args:
        by_model: of each model, by name, its weights, (inputs, classes).
        shape: rows and columns of an image.
    """
    classes = next(iter(by_model.values())).shape[1]
    figure = _figure(classes + 1.6, len(by_model) + 0.4)
    grid = figure.subplots(len(by_model), classes, squeeze=False)
    figure.subplots_adjust(
        left=1.6 / (classes + 1.6),
        right=0.995,
        bottom=0.01,
        top=0.92,
        wspace=0.05,
        hspace=0.05,
    )
    for row, (name, matrix) in zip(grid, by_model.items(), strict=True):
        # Models differ in scale, since one epoch leaves each at another length.
        limit = np.abs(matrix).max()
        for column, axes in enumerate(row):
            picture = matrix[:, column].reshape(shape)
            axes.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit)
            _bare(axes)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for column, axes in enumerate(grid[0]):
        axes.set_title(str(column), fontsize=10)
    return figure


def confusion(
    counts: npt.NDArray[np.int64], classes: Sequence[int], title: str
) -> Figure:
    """Draw confusion counts, (classes, classes): rows are true, columns predicted.

    The colours are of the mistakes alone, which the right ones would drown.
    """
    figure, axes = _axes(6, 6)
    mistakes = counts - np.diag(np.diagonal(counts))
    axes.imshow(mistakes, cmap="Oranges", vmax=max(int(mistakes.max()), 1))
    for (row, column), count in np.ndenumerate(counts):
        dark = mistakes[row, column] > 0.6 * mistakes.max()
        ink = "grey" if row == column else "white" if dark else "black"
        text = str(count or "")
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=ink)
    axes.set_xticks(range(len(classes)), [str(label) for label in classes])
    axes.set_yticks(range(len(classes)), [str(label) for label in classes])
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left")
    return figure


def _label_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write each curve's name beside its end, no two on top of each other."""
    apart = 0.055 * max(axes.get_ylim()[1], 1e-9)
    lowest = -np.inf
    for height, name, colour in sorted(ends):
        lowest = max(height, lowest + apart)
        axes.annotate(
            f"{name}  {height:.3f}",
            (1.01, lowest),
            xycoords=axes.get_yaxis_transform(),
            color=colour,
            va="center",
            fontsize=9,
        )


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of that many inches."""
    return Figure(figsize=(width, height), dpi=DPI, facecolor="white")


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _figure(width, height)
    return figure, figure.subplots()


def _image(axes: Axes, image: Pixels, brightest: int = 255) -> None:
    """Draw a digit as ink on paper."""
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=brightest)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
