"""Charts: of the data, of how the trainings went, and of how good the models are."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tasks.dataset.splits import SplitName
from tasks.reporting import svg
from tasks.reporting.svg import Values

# Batches that one point of a loss curve is the mean of.
SMOOTHED_OVER = 20


def counts(
    by_split: Mapping[SplitName, npt.NDArray[np.integer]], names: Sequence[str]
) -> Axes:
    """Draw the share of each class in each split, (classes,)."""
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
    svg.name_places(axes.xaxis, names)
    axes.set_ylabel("% of the split")
    return axes


def mean_pixels(by_class: Mapping[str, Values], brightest: int) -> Axes:
    """Draw how much ink the images of each class have: their mean pixels, (N,).

    Args:
        by_class: the mean pixels by the names of the classes.
        brightest: the largest value that a pixel can have.
    """
    axes = svg.axes()
    values = list(by_class.values())
    quartiles = np.array(
        [np.quantile(v, [0.05, 0.25, 0.5, 0.75, 0.95]) for v in values]
    )
    positions = np.arange(len(values))
    axes.vlines(positions, quartiles[:, 0], quartiles[:, 4], lw=1.5)
    axes.vlines(positions, quartiles[:, 1], quartiles[:, 3], lw=7)
    axes.plot(positions, quartiles[:, 2], "o", color="white", ms=3)
    svg.name_places(axes.xaxis, list(by_class))
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"mean pixel, of {brightest}")
    return axes


def losses(
    by_model: Mapping[str, Values],
    colours: Mapping[str, str],
    chance: float,
    references: Mapping[str, float],
) -> Axes:
    """Draw each model's loss per batch, (batches,), as a running mean.

    Args:
        by_model: the losses by the models' names.
        colours: of the models, by their names.
        chance: the loss of a model that knows nothing.
        references: losses at the end to compare with, by what they are.
    """
    axes = svg.axes(8, 4)
    # Of little data there may be fewer batches than that.
    shortest = min(len(values) for values in by_model.values())
    over = max(1, min(SMOOTHED_OVER, shortest // 2))
    window = np.ones(over) / over
    ends = []
    # What coincides is drawn ever thinner, so that all can be seen.
    widths = np.linspace(5, 1, len(by_model))
    for (name, values), width in zip(by_model.items(), widths, strict=True):
        smooth = np.convolve(values, window, mode="valid")
        batches = np.arange(len(smooth)) + over
        axes.plot(batches, smooth, color=colours[name], lw=width)
        end = float(smooth[-over:].mean())
        ends.append((end, f"{name}  {end:.3f}", colours[name]))
    longest = max(len(values) for values in by_model.values())
    axes.axhline(chance, color=svg.FOREGROUND, lw=0.8, ls=":")
    axes.annotate(
        f"knowing nothing: ln {np.exp(chance):.0f} = {chance:.2f}",
        (0.3, chance),
        xycoords=axes.get_yaxis_transform(),
        va="top",
        fontsize=9,
    )
    for what, value in references.items():
        axes.plot([longest], [value], "x", color=svg.FOREGROUND, clip_on=False)
        axes.annotate(
            what,
            (longest, value),
            xytext=(-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9,
        )
    axes.set_ylim(0, 1.08 * max([chance, *references.values()]))
    axes.set_xlim(0, longest)
    axes.set_xlabel("batch")
    axes.set_ylabel(f"loss, nats (mean of {over})")
    svg.label_ends(axes, ends)
    return axes


def accuracies(
    by_model: Mapping[str, Values],
    colours: Mapping[str, str],
    references: Mapping[str, float],
) -> Axes:
    """Draw accuracy in validation after each epoch, (epochs,), of each model.

    Args:
        by_model: the accuracies by the models' names.
        colours: of the models, by their names.
        references: other accuracies to compare with, by what they are.
    """
    axes = svg.axes(8, 3.6)
    ends = []
    for name, values in by_model.items():
        epochs = np.arange(1, len(values) + 1)
        axes.plot(epochs, values, "o-", color=colours[name], ms=5)
        ends.append((float(values[-1]), f"{name}  {values[-1]:.4f}", colours[name]))
    for value in references.values():
        axes.axhline(value, color=svg.FOREGROUND, lw=0.8, ls=":")
    longest = max(len(values) for values in by_model.values())
    axes.set_xlim(0.5, longest + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    everything = [
        *references.values(),
        *(float(v.min()) for v in by_model.values()),
        *(float(v.max()) for v in by_model.values()),
    ]
    margin = 0.15 * (max(everything) - min(everything)) + 0.001
    axes.set_ylim(min(everything) - margin, max(everything) + margin)
    for name, value in references.items():
        axes.annotate(
            f"{name}  {value:.4f}",
            (0.01, value),
            fontsize=9,
            va="bottom",
            xycoords=axes.get_yaxis_transform(),
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy in validation")
    svg.label_ends(axes, ends)
    return axes


def sweep(
    table: pd.DataFrame, rules: Mapping[str, str], palette: Sequence[str]
) -> Axes:
    """Draw accuracy against learning rate: mean, and deviation as a bar.

    A variant has a colour, an update rule a mark, each batch size a line of its own.

    Args:
        table: see `tasks.tuning.ranking.table`.
        rules: the update rule of each variant, by its name.
        palette: colours.
    """
    axes = svg.axes(8, 4.4)
    names = list(dict.fromkeys(table["variant"]))
    used = dict.fromkeys(rules[name] for name in names)
    markers = dict(zip(used, "os^D", strict=False))
    sizes = sorted(set(table["batch_size"]))
    ends = []
    for name, size in itertools.product(names, sizes):
        of_both = (table["variant"] == name) & (table["batch_size"] == size)
        found = table[of_both].dropna(subset="mean")
        if found.empty:
            continue
        colour = palette[names.index(name) % len(palette)]
        axes.errorbar(
            found["learning_rate"],
            found["mean"],
            found["sd"].fillna(0),
            fmt=f"{markers[rules[name]]}-",
            color=colour,
            ms=5,
            lw=1 + sizes.index(size) / 2,
        )
        label = f"{name}, {size}" if len(sizes) > 1 else name
        ends.append((float(found["mean"].iloc[-1]), f"{label} ({rules[name]})", colour))
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("accuracy in validation")
    svg.label_ends(axes, ends)
    return axes


def differences(by_model: Mapping[str, Values], colours: Mapping[str, str]) -> Axes:
    """Draw how far each model's loss is from its twin's, batch by batch, (batches,)."""
    axes = svg.axes(8, 2.6)
    ends = []
    # The first on top: it may be a mere line.
    for name, values in reversed(list(by_model.items())):
        axes.plot(values, color=colours[name])
        ends.append((float(values[-1]), name, colours[name]))
    limit = max(1e-6, 1.2 * max(float(np.abs(v).max()) for v in by_model.values()))
    axes.set_ylim(-limit, limit)
    axes.set_xlabel("batch")
    axes.set_ylabel("difference, nats")
    svg.label_ends(axes, ends)
    return axes


def confusion(matrix: npt.NDArray[np.integer], names: Sequence[str]) -> Axes:
    """Draw confusion counts, (classes, classes): rows are true, columns predicted.

    The colours are of the mistakes alone, which the right ones would drown.
    """
    axes = svg.axes(5.6, 5.4)
    mistakes = matrix - np.diag(np.diagonal(matrix))
    shown = np.where(mistakes > 0, mistakes, np.nan)
    axes.imshow(shown, cmap="Oranges", vmin=0, vmax=max(int(mistakes.max()), 1))
    for (row, column), count in np.ndenumerate(matrix):
        share = mistakes[row, column] / max(int(mistakes.max()), 1)
        on_colour = "white" if share > 0.6 else "black"
        axes.text(
            column,
            row,
            str(count or ""),
            ha="center",
            va="center",
            fontsize=9,
            color=svg.FOREGROUND if row == column else on_colour,
        )
    svg.name_places(axes.xaxis, names)
    svg.name_places(axes.yaxis, names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return axes


def reliability(confidence: Values, accuracy: Values, images: Values) -> Axes:
    """Draw accuracy against confidence, each (bins,), with the images in each bin."""
    axes = svg.axes(4.6, 4.4)
    axes.plot([0, 1], [0, 1], color=svg.FOREGROUND, lw=0.8, ls=":")
    sizes = 12 + 300 * images / images.max()
    axes.scatter(confidence, accuracy, s=sizes, alpha=0.8, lw=0, clip_on=False)
    axes.plot(confidence, accuracy, lw=1)
    axes.annotate("too sure", (0.75, 0.35), ha="center", fontsize=9)
    axes.annotate("not sure enough", (0.3, 0.75), ha="center", fontsize=9)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("probability of the prediction")
    axes.set_ylabel("share that is right")
    return axes


def selective_accuracy(
    by_model: Mapping[str, npt.NDArray[np.bool_]],
    colours: Mapping[str, str],
    chosen_share: float,
) -> Axes:
    """Draw accuracy against the share of images kept, the least certain left out.

    Args:
        by_model: of each model whether it is right, (N,), the most certain first.
        colours: of the models, by their names.
        chosen_share: the share kept at a threshold that was chosen.
    """
    axes = svg.axes(8, 3.8)
    lows = []
    widths = np.linspace(3.5, 1, len(by_model))
    ends = []
    for (name, right), width in zip(by_model.items(), widths, strict=True):
        number = np.arange(1, len(right) + 1)
        accuracy = np.cumsum(right) / number
        start = max(1, len(right) // 20)
        shown = slice(start, None, max(1, len(right) // 400))
        share = 100 * number[shown] / len(right)
        axes.plot(share, accuracy[shown], color=colours[name], lw=width)
        lows.append(float(accuracy[start:].min()))
        ends.append((float(accuracy[-1]), name, colours[name]))
    axes.set_xlim(0, 100)
    axes.set_ylim(min(lows) - 0.01, 1.003)
    axes.axvline(100 * chosen_share, color=svg.FOREGROUND, lw=0.8, ls=":")
    axes.set_xlabel("% of the images kept")
    axes.set_ylabel("accuracy on them")
    svg.label_ends(axes, ends)
    return axes
