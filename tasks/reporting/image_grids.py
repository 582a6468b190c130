"""Pictures of images, of parts of them, of weights; many of them as one mosaic."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.dataset.splits import Floats, Pixels
from tasks.reporting import svg

GAP = 2  # pixels between two images of a mosaic
WIDTH = 8  # inches of a figure
LINE_INCHES = 0.2  # of text
NAMES_INCHES = 1.3
CELL_INCHES = 1  # an image at most, where there are few
LETTER_INCHES = 0.062  # of the small text above an image

Labels = Sequence[object] | npt.NDArray[np.integer]


def mosaic(
    images: npt.NDArray[np.floating] | Pixels, columns: int
) -> tuple[npt.NDArray[np.float64], list[tuple[float, float]]]:
    """Return images, (N, rows, columns), side by side, and the top middle of each.

    What is between them is NaN, which is not drawn.
    """
    count, height, width = images.shape
    lines = -(-count // columns)
    whole = np.full((lines * (height + GAP), columns * (width + GAP)), np.nan)
    tops = []
    for number, image in enumerate(images):
        top = number // columns * (height + GAP)
        left = number % columns * (width + GAP)
        whole[top : top + height, left : left + width] = image
        tops.append((left + width / 2 - 0.5, top - 0.5))
    return whole[:-GAP, :-GAP], tops


def one(image: Pixels, name: str) -> Axes:
    """Draw one image, (rows, columns), with the name of its class."""
    axes = svg.axes(3.2, 3.4)
    axes.imshow(image, cmap="gray_r")
    svg.bare(axes)
    axes.set_title(f"The first training image: {name}")
    return axes


def crop(image: Pixels, rows: slice, columns: slice) -> Axes:
    """Draw a part of `image`, (rows, columns), each pixel with its value."""
    axes = svg.axes(3.2, 3.4)
    part = image[rows, columns]
    axes.imshow(part, cmap="gray_r", vmin=0, vmax=int(image.max()))
    for (row, column), value in np.ndenumerate(part):
        color = "black" if 2 * int(value) < image.max() else "white"
        axes.text(column, row, str(value), ha="center", va="center", color=color)
    svg.bare(axes)
    axes.set_title(
        f"Rows {rows.start} to {rows.start + len(part) - 1}, "
        f"columns {columns.start} to {columns.start + part.shape[1] - 1}"
    )
    return axes


def means(by_class: Mapping[str, npt.NDArray[np.floating]]) -> Axes:
    """Draw the mean image of each class, (rows, columns), by its name."""
    images = np.stack(list(by_class.values()))
    axes = _grid(images, columns=len(images), cmap="gray_r", cell=CELL_INCHES)
    for (x, y), name in zip(mosaic(images, len(images))[1], by_class, strict=True):
        axes.text(x, y - 1, name, ha="center", va="bottom")
    return axes


def predictions(
    images: Pixels, labels: Labels, predicted: Mapping[str, Labels]
) -> Axes:
    """Draw images, (N, rows, columns), below what each model takes them for.

    Args:
        images: the images.
        labels: their true labels, (N,).
        predicted: of each model, by name, its predictions, (N,).
    """
    lines = {"label": labels, **predicted}
    axes = _grid(images, len(images), "gray_r", names=NAMES_INCHES, lines=len(lines))
    tops = mosaic(images, len(images))[1]
    for number, (name, values) in enumerate(reversed(lines.items())):
        above = _line(number)
        axes.annotate(name, (-4, -1), **above, ha="right", fontsize=9)
        for (x, _), value, label in zip(tops, values, labels, strict=True):
            wrong = value != label
            axes.annotate(
                str(value),
                (x, -1),
                **above,
                ha="center",
                fontsize=9,
                color=svg.WRONG if wrong else svg.FOREGROUND,
                fontweight="bold" if wrong else "normal",
            )
    return axes


def mistakes(
    images: Pixels, labels: Labels, predicted: Labels, probabilities: Sequence[float]
) -> Axes:
    """Draw images that were taken for others, each with label, prediction, certainty.

    Args:
        images: uint8 (N, rows, columns).
        labels: what they are, (N,).
        predicted: what they were taken for, (N,).
        probabilities: of the predictions, (N,).
    """
    said = [
        f"{label} as {taken}, {sure:.2f}"
        for label, taken, sure in zip(labels, predicted, probabilities, strict=True)
    ]
    # Words want more room than digits do.
    widest = max(map(len, said)) * LETTER_INCHES
    columns = max(1, min(10, int(WIDTH / widest)))
    height = images.shape[1] // 3
    spaced = np.pad(
        images.astype(float), ((0, 0), (height, 0), (0, 0)), constant_values=np.nan
    )
    axes = _grid(spaced, columns, cmap="gray_r")
    positions = mosaic(spaced, columns)[1]
    for (x, y), words in zip(positions, said, strict=True):
        axes.text(
            x,
            y + height,
            words,
            ha="center",
            va="bottom",
            fontsize=7,
        )
    return axes


def weights(
    by_model: Mapping[str, Floats], shape: tuple[int, int], names: Sequence[str]
) -> Axes:
    """Draw the weights of every class as an image, a row a model, all on one scale.

    Args:
        by_model: of each model, by name, its weights, (inputs, classes).
        shape: rows and columns of an image.
        names: of the classes.
    """
    n_classes = len(names)
    images = np.concatenate([m.T.reshape(-1, *shape) for m in by_model.values()])
    # Few weights are extreme; without them the rest can be seen.
    limit = float(np.quantile(np.abs(images), 0.995))
    axes = _grid(
        images,
        n_classes,
        cmap="RdBu_r",
        limits=(-limit, limit),
        names=NAMES_INCHES,
        cell=CELL_INCHES,
    )
    tops = mosaic(images, n_classes)[1]
    for (x, _), name in zip(tops, names, strict=False):
        axes.text(x, -2, name, ha="center", va="bottom")
    for line, model in enumerate(by_model):
        y = tops[line * n_classes][1] + shape[0] / 2
        axes.text(-4, y, model, ha="right", va="center", fontsize=9)
    return axes


def _line(number: int) -> dict[str, Any]:
    """Return how to annotate in line `number` above a place."""
    points = 72 * LINE_INCHES * number + 1
    return {
        "xytext": (0, points),
        "textcoords": "offset points",
        "va": "bottom",
        "annotation_clip": False,
    }


def _grid(
    images: npt.NDArray[np.floating] | Pixels,
    columns: int,
    cmap: str,
    *,
    limits: tuple[float, float] | None = None,
    names: float = 0,
    lines: int = 1,
    cell: float = WIDTH,
) -> Axes:
    """Draw a mosaic, with room for `names` inches at its left and `lines` above it.

    No image is wider than `cell` inches, so that few of them are not huge.
    """
    picture, _ = mosaic(images, columns)
    rows, width = picture.shape
    above = LINE_INCHES * lines
    inches = min(WIDTH, names + cell * columns)
    height = (inches - names) * rows / width
    figure = Figure(figsize=(inches, height + above))
    whole = height / (height + above)
    axes = figure.add_axes((names / inches, 0, 1 - names / inches, whole))
    low, high = limits or (0, float(np.nanmax(picture)))
    axes.imshow(picture, cmap=cmap, vmin=low, vmax=high)
    svg.bare(axes)
    return axes
