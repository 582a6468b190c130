"""The figures of the report by name; the page's template has their captions."""

import itertools
import math

import numpy as np
from matplotlib.axes import Axes

from tasks.reporting import charts, image_grids, svg
from tasks.reporting.charts import Colours
from tasks.reporting.run import Run

# The lesson prints 5 x 5 pixels of the first image, from row and column 10 of 28.
CROP_START, CROP_SIZE = 10 / 28, 5
FIRST = 8  # images that the lesson looks at
MISTAKES = 20


def draw(run: Run) -> dict[str, str]:
    """Return every figure of the report as an SVG element, by name."""
    with svg.style() as palette:
        *others, baseline = palette
        colours = dict.fromkeys(run.models, baseline)
        colours |= zip(run.loss, itertools.cycle(others), strict=False)
        figures = {
            **_data(run),
            **_training(run, colours),
            **_models(run),
            **_mistakes(run),
            **_confidence(run, colours),
        }
        return {name: svg.render(axes) for name, axes in figures.items()}


def _data(run: Run) -> dict[str, Axes]:
    train, classes, form = run.splits["train"], run.facts.classes, run.facts.form
    image = train.images[0]
    rows, columns = (
        slice(int(side * CROP_START), int(side * CROP_START) + CROP_SIZE)
        for side in form.shape
    )
    counts = {
        name: np.bincount(split.labels, minlength=len(classes))
        for name, split in run.splits.items()
    }
    by_class = {
        name: images
        for label, name in enumerate(classes)
        if len(images := train.images[train.labels == label])
    }
    mean_pixels = {name: images.mean(axis=(1, 2)) for name, images in by_class.items()}
    mean_images = {name: images.mean(axis=0) for name, images in by_class.items()}
    return {
        "first": image_grids.first_image(image, classes[train.labels[0]]),
        "crop": image_grids.crop(image, rows, columns),
        "counts": charts.counts(counts, classes),
        "ink": charts.mean_pixels(mean_pixels, form.brightest),
        "means": image_grids.means(mean_images),
    }


def _training(run: Run, colours: Colours) -> dict[str, Axes]:
    chance = math.log(len(run.facts.classes))
    figures = {
        "loss": charts.losses(run.loss, colours, chance, run.reported.loss),
        "accuracy": charts.accuracies(run.accuracy, colours, run.reported.accuracy),
    }
    differences = {
        name: run.loss[name] - run.loss[pair["optimizer"]]
        for name, pair in run.metrics["by_hand"].items()
    }
    if differences:
        figures["difference"] = charts.differences(differences, colours)
    return figures


def _models(run: Run) -> dict[str, Axes]:
    weights = {
        name: model.tensors["weights"]
        for name, model in run.models.items()
        if model.description.architecture == "linear"
    }
    first = run.predictions.head(FIRST)
    return {
        "weights": image_grids.weights(
            weights, run.facts.form.shape, run.facts.classes
        ),
        "predictions": image_grids.predictions(
            run.splits["valid"].images[:FIRST],
            first["label"].to_numpy(),
            {name: first[name].to_numpy() for name in run.models},
        ),
    }


def _mistakes(run: Run) -> dict[str, Axes]:
    best, classes = run.metrics["best"], run.facts.classes
    confusion = run.confusion
    tested = confusion[(confusion["model"] == best) & (confusion["split"] == "test")]
    counts = tested.pivot_table(index="actual", columns="predicted", values="images")
    matrix = counts.reindex(index=classes, columns=classes).to_numpy().astype(np.int64)
    figures = {"confusion": charts.confusion(matrix, classes)}
    table, probability = run.predictions, f"{best}_probability"
    wrong = table[table[best] != table["label"]]
    if len(wrong):
        wrong = wrong.sort_values([probability, "index"], ascending=[False, True])
        wrong = wrong.head(MISTAKES)
        figures["mistakes"] = image_grids.mistakes(
            run.splits["valid"].images[wrong["index"].to_numpy()],
            wrong["label"].to_numpy(),
            wrong[best].to_numpy(),
            wrong[probability].to_numpy(),
        )
    return figures


def _confidence(run: Run, colours: Colours) -> dict[str, Axes]:
    table, best = run.predictions, run.metrics["best"]
    bins = run.calibration[run.calibration["model"] == best]
    right = {}
    for name in run.models:
        descending = np.argsort(-table[f"{name}_probability"].to_numpy(), kind="stable")
        right[name] = (table[name] == table["label"]).to_numpy()[descending]
    set_aside = float(run.metrics["models"][best]["kept"]["valid"]["set_aside"])
    return {
        "reliability": charts.reliability(
            *(bins[key].to_numpy() for key in ("confidence", "accuracy", "images"))
        ),
        "kept": charts.selective_accuracy(right, colours, 1 - set_aside),
    }
