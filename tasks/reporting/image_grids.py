"""Figures of images and of weights, many of them in one grid."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.dataset.splits import Floats, Pixels
from tasks.reporting import svg

GAP = 2  # pixels between two images
# Sizes in inches.
MAX_WIDTH = 8.0  # of a figure
MAX_CELL = 1.0  # of an image, where there are few
NAMES_WIDTH = 1.3  # of the models' names, left of the images
LINE_HEIGHT = 0.2
LETTER_WIDTH = 0.062  # of the small text above an image

Labels = Sequence[object] | npt.NDArray[np.integer]
Position = tuple[float, float]


def first_image(image: Pixels, name: str) -> Axes:
    """Draw one image, (rows, columns), with the name of its class."""
    return _titled(image, f"The first training image: {name}")


def crop(image: Pixels, rows: slice, columns: slice) -> Axes:
    """Draw a part of `image`, (rows, columns), with the value of each pixel."""
    part = image[rows, columns]
    title = (
        f"Rows {rows.start} to {rows.start + len(part) - 1}, "
        f"columns {columns.start} to {columns.start + part.shape[1] - 1}"
    )
    axes = _titled(part, title, vmin=0, vmax=int(image.max()))
    for (row, column), value in np.ndenumerate(part):
        color = "black" if 2 * int(value) < image.max() else "white"
        axes.text(column, row, str(value), ha="center", va="center", color=color)
    return axes


def _titled(image: Pixels, title: str, **limits: Any) -> Axes:
    axes = svg.axes(3.2, 3.4)
    axes.imshow(image, cmap="gray_r", **limits)
    axes.set_title(title)
    svg.hide_frame(axes)
    return axes


def means(by_class: Mapping[str, npt.NDArray[np.floating]]) -> Axes:
    """Draw the mean image of each class, (rows, columns), under its name."""
    images = np.stack(list(by_class.values()))
    axes, tops = _grid(images, len(images), cell=MAX_CELL)
    for (x, y), name in zip(tops, by_class, strict=True):
        axes.text(x, y - 1, name, ha="center", va="bottom")
    return axes


def predictions(
    images: Pixels, labels: Labels, predicted: Mapping[str, Labels]
) -> Axes:
    """Draw images in a row, (N, rows, columns), under labels and predictions, (N,)."""
    lines = {"label": labels, **predicted}
    axes, tops = _grid(images, len(images), names=NAMES_WIDTH, lines=len(lines))

    def write(text: str, x: float, line: int, **style: Any) -> None:
        axes.annotate(
            text,
            (x, -1),
            xytext=(0, 72 * LINE_HEIGHT * line + 1),
            textcoords="offset points",
            va="bottom",
            annotation_clip=False,
            fontsize=9,
            **style,
        )

    for line, (name, values) in enumerate(reversed(lines.items())):
        write(name, -4, line, ha="right")
        for (x, _), value, label in zip(tops, values, labels, strict=True):
            wrong = value != label
            color = svg.WRONG if wrong else svg.FOREGROUND
            weight = "bold" if wrong else "normal"
            write(str(value), x, line, ha="center", color=color, fontweight=weight)
    return axes


def mistakes(
    images: Pixels, labels: Labels, predicted: Labels, probabilities: Sequence[float]
) -> Axes:
    """Draw images, (N, rows, columns), under their labels and wrong predictions."""
    rows = zip(labels, predicted, probabilities, strict=True)
    titles = [f"{label} as {other}, {share:.2f}" for label, other, share in rows]
    # Long class names need wider columns than digits.
    widest = max(map(len, titles)) * LETTER_WIDTH
    columns = max(1, min(10, int(MAX_WIDTH / widest)))
    height = images.shape[1] // 3  # of the space for a title
    above = ((0, 0), (height, 0), (0, 0))
    spaced = np.pad(images.astype(float), above, constant_values=np.nan)
    axes, tops = _grid(spaced, columns)
    for (x, y), title in zip(tops, titles, strict=True):
        axes.text(x, y + height, title, ha="center", va="bottom", fontsize=7)
    return axes


def weights(
    by_model: Mapping[str, Floats], shape: tuple[int, int], names: Sequence[str]
) -> Axes:
    """Draw weights, (inputs, classes), as images: a row per model, all on one scale."""
    images = np.concatenate([m.T.reshape(-1, *shape) for m in by_model.values()])
    # A few extreme weights would make all others pale.
    limit = float(np.quantile(np.abs(images), 0.995))
    axes, tops = _grid(
        images, len(names), limit=limit, names=NAMES_WIDTH, cell=MAX_CELL
    )
    for (x, _), name in zip(tops, names, strict=False):
        axes.text(x, -2, name, ha="center", va="bottom")
    for (_, y), model in zip(tops[:: len(names)], by_model, strict=True):
        axes.text(-4, y + shape[0] / 2, model, ha="right", va="center", fontsize=9)
    return axes


def mosaic(
    images: npt.NDArray[np.floating] | Pixels, columns: int
) -> tuple[npt.NDArray[np.float64], list[Position]]:
    """Return images, (N, rows, columns), side by side, and the top middle of each.

    The gaps between them are NaN, which is not drawn.
    """
    lines = -(-len(images) // columns)
    missing = lines * columns - len(images)
    gaps = ((0, missing), (0, GAP), (0, GAP))
    cells = np.pad(images.astype(np.float64), gaps, constant_values=np.nan)
    _, height, width = cells.shape
    rows = cells.reshape(lines, columns, height, width).swapaxes(1, 2)
    whole = rows.reshape(lines * height, columns * width)[:-GAP, :-GAP]
    middle = (images.shape[2] - 1) / 2
    cells_at = (divmod(number, columns) for number in range(len(images)))
    return whole, [(x * width + middle, y * height - 0.5) for y, x in cells_at]


def _grid(
    images: npt.NDArray[np.floating] | Pixels,
    columns: int,
    *,
    limit: float | None = None,
    names: float = 0,
    lines: int = 1,
    cell: float = MAX_WIDTH,
) -> tuple[Axes, list[Position]]:
    """Draw a mosaic, and return the top middle of each image.

    Values are drawn in gray from 0 to their maximum, or from blue to red from `-limit`
    to `limit`. There is space for `names` inches on the left and for `lines` of text
    above. An image is at most `cell` inches wide.
    """
    picture, tops = mosaic(images, columns)
    rows, width = picture.shape
    above = LINE_HEIGHT * lines
    inches = min(MAX_WIDTH, names + cell * columns)
    height = (inches - names) * rows / width
    figure = Figure(figsize=(inches, height + above))
    share = height / (height + above)
    axes = figure.add_axes((names / inches, 0, 1 - names / inches, share))
    cmap = "RdBu_r" if limit else "gray_r"
    axes.imshow(picture, cmap=cmap, vmin=-limit if limit else 0, vmax=limit)
    svg.hide_frame(axes)
    return axes, tops
