"""Charts of the data, the training histories and the results."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tasks.dataset.splits import SplitName
from tasks.reporting import svg
from tasks.reporting.svg import Values

SMOOTHING = 20  # batches in the running mean of a loss curve

ByModel = Mapping[str, Values]
Colours = Mapping[str, str]


def counts(
    by_split: Mapping[SplitName, npt.NDArray[np.integer]], names: Sequence[str]
) -> Axes:
    """Draw the share of each class in each split, from image counts, (classes,)."""
    axes = svg.axes()
    width = 0.8 / len(by_split)
    for number, (name, values) in enumerate(by_split.items()):
        positions = np.arange(len(names)) + (number - (len(by_split) - 1) / 2) * width
        bars = axes.bar(positions, 100 * values / values.sum(), width * 0.9)
        axes.annotate(
            f"{name}: {values.sum():,}",
            (1.01, 0.95 - 0.08 * number),
            xycoords="axes fraction",
            color=bars[0].get_facecolor(),
            va="top",
        )
    svg.label_ticks(axes.xaxis, names)
    axes.set_ylabel("% of the split")
    return axes


def mean_pixels(by_class: ByModel, brightest: int) -> Axes:
    """Draw quantiles of the mean pixel of the images, (N,), of each class."""
    axes = svg.axes()
    low, lower, median, upper, high = np.transpose(
        [np.quantile(v, [0.05, 0.25, 0.5, 0.75, 0.95]) for v in by_class.values()]
    )
    positions = np.arange(len(by_class))
    axes.vlines(positions, low, high, lw=1.5)
    axes.vlines(positions, lower, upper, lw=7)
    axes.plot(positions, median, "o", color="white", ms=3)
    svg.label_ticks(axes.xaxis, list(by_class))
    axes.set(ylim=(0, None), ylabel=f"mean pixel, of {brightest}")
    return axes


def losses(
    by_model: ByModel, colours: Colours, chance: float, references: Mapping[str, float]
) -> Axes:
    """Draw the loss per batch, (batches,), of each model as a running mean.

    `chance` is the loss of a uniform guess, `references` are reported final losses by
    description.
    """
    axes = svg.axes(8, 4)
    lengths = [len(values) for values in by_model.values()]
    window = max(1, min(SMOOTHING, min(lengths) // 2))
    ends = []
    # Each curve is thinner than the one before, so that all of them stay visible.
    widths = np.linspace(5, 1, len(by_model))
    for (name, values), width in zip(by_model.items(), widths, strict=True):
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        batches = np.arange(len(smooth)) + window
        axes.plot(batches, smooth, color=colours[name], lw=width)
        end = float(smooth[-window:].mean())
        ends.append((end, f"{name}  {end:.3f}", colours[name]))
    label = f"uniform guess: ln {np.exp(chance):.0f} = {chance:.2f}"
    _dotted_line(axes, chance, label, x=0.3, va="top")
    for description, value in references.items():
        axes.plot([max(lengths)], [value], "x", color=svg.FOREGROUND, clip_on=False)
        axes.annotate(
            description,
            (max(lengths), value),
            xytext=(-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9,
        )
    highest = max([chance, *references.values()])
    axes.set(xlim=(0, max(lengths)), ylim=(0, 1.08 * highest))
    axes.set(xlabel="batch", ylabel=f"loss, nats (mean of {window})")
    svg.label_ends(axes, ends)
    return axes


def accuracies(
    by_model: ByModel, colours: Colours, references: Mapping[str, float]
) -> Axes:
    """Draw the accuracy in validation after each epoch, (epochs,), of each model.

    `references` are reported accuracies by description.
    """
    axes = svg.axes(8, 3.6)
    ends = []
    for name, values in by_model.items():
        epochs = np.arange(1, len(values) + 1)
        axes.plot(epochs, values, "o-", color=colours[name], ms=5)
        ends.append((float(values[-1]), f"{name}  {values[-1]:.4f}", colours[name]))
    for description, value in references.items():
        _dotted_line(axes, value, f"{description}  {value:.4f}", x=0.01, va="bottom")
    axes.set_xlim(0.5, max(len(values) for values in by_model.values()) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    shown = np.concatenate([*by_model.values(), list(references.values())])
    low, high = float(shown.min()), float(shown.max())
    margin = 0.15 * (high - low) + 0.001
    axes.set(ylim=(low - margin, high + margin))
    axes.set(xlabel="epoch", ylabel="accuracy in validation")
    svg.label_ends(axes, ends)
    return axes


def _dotted_line(axes: Axes, y: float, label: str, *, x: float, va: str) -> None:
    """Draw a labelled horizontal line; `x` is a share of the width."""
    axes.axhline(y, color=svg.FOREGROUND, lw=0.8, ls=":")
    across = axes.get_yaxis_transform()
    axes.annotate(label, (x, y), xycoords=across, va=va, fontsize=9)


def sweep(
    table: pd.DataFrame, rules: Mapping[str, str], palette: Sequence[str]
) -> Axes:
    """Draw accuracy against learning rate: the mean, and the deviation as a bar.

    Each variant has a colour of the palette, each update rule a marker, each batch size
    a line. `table` is described in `tasks.compare_settings`; `rules` are the update
    rules by variant.
    """
    axes = svg.axes(8, 4.4)
    names = list(dict.fromkeys(table["variant"]))
    sizes = sorted(set(table["batch_size"]))
    markers = dict(zip(dict.fromkeys(map(rules.get, names)), "os^D", strict=False))
    ends = []
    found = table.dropna(subset="mean")
    lines: Any = found.groupby(["variant", "batch_size"], sort=False)
    for (name, size), points in lines:
        colour = palette[names.index(name) % len(palette)]
        axes.errorbar(
            points["learning_rate"],
            points["mean"],
            points["sd"].fillna(0),
            fmt=f"{markers[rules[name]]}-",
            color=colour,
            ms=5,
            lw=1 + sizes.index(size) / 2,
        )
        label = f"{name}, {size}" if len(sizes) > 1 else name
        end = float(points["mean"].iloc[-1])
        ends.append((end, f"{label} ({rules[name]})", colour))
    axes.set(xscale="log", xlabel="learning rate", ylabel="accuracy in validation")
    svg.label_ends(axes, ends)
    return axes


def differences(by_model: ByModel, colours: Colours) -> Axes:
    """Draw the difference between two models' losses, batch by batch, (batches,)."""
    axes = svg.axes(8, 2.6)
    ends = []
    # The first model is drawn last, on top: its curve may be a straight line.
    for name, values in reversed(list(by_model.items())):
        axes.plot(values, color=colours[name])
        ends.append((float(values[-1]), name, colours[name]))
    limit = max(1e-6, 1.2 * max(float(np.abs(v).max()) for v in by_model.values()))
    axes.set(ylim=(-limit, limit), xlabel="batch", ylabel="difference, nats")
    svg.label_ends(axes, ends)
    return axes


def confusion(matrix: npt.NDArray[np.integer], names: Sequence[str]) -> Axes:
    """Draw confusion counts, (classes, classes): rows are true, columns predicted.

    Only mistakes are coloured: the counts on the diagonal would outweigh them.
    """
    axes = svg.axes(5.6, 5.4)
    mistakes = matrix - np.diag(np.diagonal(matrix))
    highest = max(int(mistakes.max()), 1)
    shown = np.where(mistakes > 0, mistakes, np.nan)
    axes.imshow(shown, cmap="Oranges", vmin=0, vmax=highest)
    for (row, column), count in np.ndenumerate(matrix):
        on_colour = "white" if mistakes[row, column] > 0.6 * highest else "black"
        colour = svg.FOREGROUND if row == column else on_colour
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour}
        axes.text(column, row, str(count or ""), fontsize=9, **style)
    svg.label_ticks(axes.xaxis, names)
    svg.label_ticks(axes.yaxis, names)
    axes.set(xlabel="predicted", ylabel="label")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return axes


def reliability(confidence: Values, accuracy: Values, images: Values) -> Axes:
    """Draw accuracy against confidence, each (bins,); points grow with the images."""
    axes = svg.axes(4.6, 4.4)
    axes.plot([0, 1], [0, 1], color=svg.FOREGROUND, lw=0.8, ls=":")
    sizes = 12 + 300 * images / images.max()
    axes.scatter(confidence, accuracy, s=sizes, alpha=0.8, lw=0, clip_on=False)
    axes.plot(confidence, accuracy, lw=1)
    axes.annotate("overconfident", (0.75, 0.35), ha="center", fontsize=9)
    axes.annotate("underconfident", (0.3, 0.75), ha="center", fontsize=9)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set(xlabel="probability of the prediction", ylabel="accuracy")
    return axes


def selective_accuracy(
    by_model: Mapping[str, npt.NDArray[np.bool_]], colours: Colours, chosen: float
) -> Axes:
    """Draw accuracy against the share of images that a model accepts.

    `by_model` says whether each prediction is right, (N,), the most certain first;
    `chosen` is the share that the best model accepts with its threshold.
    """
    axes = svg.axes(8, 3.8)
    lowest = 1.0
    ends = []
    widths = np.linspace(3.5, 1, len(by_model))
    for (name, right), width in zip(by_model.items(), widths, strict=True):
        images = np.arange(1, len(right) + 1)
        accuracy = np.cumsum(right) / images
        # The first few images say little; 400 points make a smooth curve.
        start, step = max(1, len(right) // 20), max(1, len(right) // 400)
        share = 100 * images / len(right)
        shown = slice(start, None, step)
        axes.plot(share[shown], accuracy[shown], color=colours[name], lw=width)
        lowest = min(lowest, float(accuracy[start:].min()))
        ends.append((float(accuracy[-1]), name, colours[name]))
    axes.set(xlim=(0, 100), ylim=(lowest - 0.01, 1.003))
    axes.axvline(100 * chosen, color=svg.FOREGROUND, lw=0.8, ls=":")
    axes.set(xlabel="% of the images accepted", ylabel="accuracy on them")
    svg.label_ends(axes, ends)
    return axes
