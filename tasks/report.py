"""Draw what the run found: one page to read, and its figures.

Reads `data/normalized/`, `models/` and what evaluate wrote under `reports/`; writes
`reports/report.html`, which needs nothing else to be read, and `reports/figures/*.svg`.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from tasks.dataset import splits
from tasks.dataset.splits import Facts, Split, SplitName
from tasks.evaluation import metrics_file, model_set
from tasks.evaluation.model_set import MODELS
from tasks.modeling.model_file import Model
from tasks.rawdata import dataset_card
from tasks.rawdata.dataset_card import ReportedResults
from tasks.reporting import charts, csv_columns, html, image_grids, svg
from tasks.reporting.html import Drawing
from tasks.runtime import cli, files
from tasks.runtime.params import BadInput, load

NORMALIZED = Path("data/normalized")
REPORTS = Path("reports")

# The part of the first image that the lesson prints begins behind this share of its
# rows and columns, which is the tenth of 28, and has this many of each.
CROP_FROM, CROPPED = 10 / 28, 5
FIRST = 8  # images that the lesson looks at
MISTAKES = 20


@dataclass(frozen=True)
class Results:
    """What the page tells of, as evaluate and train wrote it.

    Attributes:
        metrics: `reports/metrics.json`.
        confusion: `reports/confusion.csv`.
        calibration: `reports/calibration.csv`.
        predictions: `reports/predictions.csv`.
        loss: of every network its loss per batch, (batches,).
        accuracy: of every network its accuracy in validation after epochs, (epochs,).
    """

    metrics: Mapping[str, Any]
    confusion: pd.DataFrame
    calibration: pd.DataFrame
    predictions: pd.DataFrame
    loss: Mapping[str, np.ndarray]
    accuracy: Mapping[str, np.ndarray]


def report(
    parts: Mapping[SplitName, Split],
    facts: Facts,
    reported: ReportedResults,
    trained: Mapping[str, Model],
    results: Results,
    params: Mapping[str, Any],
) -> tuple[str, dict[str, str]]:
    """Return the page, and each figure as an SVG element by its name."""
    with svg.style() as palette:
        # The last colour is the baseline's.
        *others, last = palette
        colours = dict.fromkeys(trained, last)
        colours |= zip(results.loss, itertools.cycle(others), strict=False)
        drawn = {
            drawing.name: (drawing, svg.render(axes))
            for drawing, axes in _drawings(
                parts, facts, reported, trained, results, colours
            )
        }
    page = html.render(
        metrics=results.metrics,
        counts={name: len(part.labels) for name, part in parts.items()},
        facts=facts,
        params=params,
        drawings={
            name: (drawing, svg.inline(text, name))
            for name, (drawing, text) in drawn.items()
        },
    )
    return page, {name: text for name, (_, text) in drawn.items()}


def _drawings(
    parts: Mapping[SplitName, Split],
    facts: Facts,
    reported: ReportedResults,
    trained: Mapping[str, Model],
    results: Results,
    colours: Mapping[str, str],
) -> list[tuple[Drawing, Axes]]:
    return [
        *_of_the_data(parts, facts),
        *_of_the_trainings(results, reported, len(facts.classes), colours),
        *_of_the_models(parts, facts, trained, results),
        *_of_the_mistakes(parts["valid"], facts, trained, results, colours),
    ]


def _of_the_data(
    parts: Mapping[SplitName, Split], facts: Facts
) -> list[tuple[Drawing, Axes]]:
    train = parts["train"]
    of_class = {
        name: images
        for label, name in enumerate(facts.classes)
        if len(images := train.images[train.labels == label])
    }
    tables = {
        name: np.bincount(part.labels, minlength=len(facts.classes))
        for name, part in parts.items()
    }
    means = {name: images.mean(axis=0) for name, images in of_class.items()}
    mean_pixels = {name: images.mean(axis=(1, 2)) for name, images in of_class.items()}
    first = train.images[0], facts.classes[train.labels[0]]
    brightest = facts.form.brightest
    start = (int(side * CROP_FROM) for side in facts.form.shape)
    crop = (slice(at, at + CROPPED) for at in start)
    return [
        (
            Drawing(
                "first",
                "An image is a table of pixels, numbers from 0, paper, to "
                f"{brightest}, ink.",
                f"The first training image, of class {first[1]}",
            ),
            image_grids.one(*first),
        ),
        (
            Drawing(
                "crop",
                "The same image close by: these numbers are all that a model is given.",
                "Part of the first training image, with the value of each pixel",
            ),
            image_grids.crop(first[0], *crop),
        ),
        (
            Drawing(
                "counts",
                "Accuracy is a fair measure where no class is rare in any split.",
                "Bar chart: share of each class in the three splits",
            ),
            charts.counts(tables, facts.classes),
        ),
        (
            Drawing(
                "ink",
                "The thick lines hold half of the images of a class, the thin ones "
                "nine tenths: where they are apart, ink alone tells two classes apart.",
                "Range of the mean pixel of the images of each class",
            ),
            charts.mean_pixels(mean_pixels, brightest),
        ),
        (
            Drawing(
                "means",
                "The mean of all training images of each class: where they agree.",
                f"{len(means)} blurred images, the means of the classes",
            ),
            image_grids.means(means),
        ),
    ]


def _of_the_trainings(
    results: Results,
    reported: ReportedResults,
    n_classes: int,
    colours: Mapping[str, str],
) -> list[tuple[Drawing, Axes]]:
    names = ", ".join(results.loss)
    drawings = [
        (
            Drawing(
                "loss",
                "Every network starts near the loss of knowing nothing. Curves of the "
                "same update lie on each other.",
                f"Loss against batches for {names}",
            ),
            charts.losses(results.loss, colours, math.log(n_classes), reported.loss),
        ),
        (
            Drawing(
                "accuracy",
                "How much each epoch adds. A dotted line is what others reached.",
                f"Accuracy in validation after each epoch for {names}",
            ),
            charts.accuracies(results.accuracy, colours, reported.accuracy),
        ),
    ]
    by_hand = {
        name: results.loss[name] - results.loss[pair["optimizer"]]
        for name, pair in results.metrics["by_hand"].items()
    }
    if by_hand:
        drawings.append(
            (
                Drawing(
                    "difference",
                    "How far the loss is from the optimizer's, batch by batch. The "
                    "update by hand is the optimizer's at every step: its line is "
                    "zero. The gradient by formula is rounded differently.",
                    "Difference of the losses, by hand and by optimizer, by batch",
                ),
                charts.differences(by_hand, colours),
            )
        )
    return drawings


def _of_the_models(
    parts: Mapping[SplitName, Split],
    facts: Facts,
    trained: Mapping[str, Model],
    results: Results,
) -> list[tuple[Drawing, Axes]]:
    valid = parts["valid"]
    first = results.predictions.head(FIRST)
    names = ", ".join(trained)
    linear = {
        name: model.weights
        for name, model in trained.items()
        if model.weights is not None
    }
    return [
        (
            Drawing(
                "weights",
                "Red pixels speak for a class, blue ones against it; all models of one "
                "layer, on one scale. Noise at the margin, which no image uses, is "
                "where a network started.",
                f"The weights of {', '.join(linear)}, one image for each class",
            ),
            image_grids.weights(linear, facts.form.shape, facts.classes),
        ),
        (
            Drawing(
                "predictions",
                "The first validation images, and what each model takes them for; what "
                "is wrong is bold.",
                f"{len(first)} images with the predictions of {names}",
            ),
            image_grids.predictions(
                valid.images[:FIRST],
                first["label"].to_numpy(),
                {name: first[name].to_numpy() for name in trained},
            ),
        ),
    ]


def _of_the_mistakes(
    valid: Split,
    facts: Facts,
    trained: Mapping[str, Model],
    results: Results,
    colours: Mapping[str, str],
) -> list[tuple[Drawing, Axes]]:
    best, table = results.metrics["best"], results.predictions
    counts = _counts(results.confusion, best, facts.classes)
    wrong = table[table[best] != table["label"]]
    surest = wrong.sort_values(
        [f"{best}_probability", "index"], ascending=[False, True]
    ).head(MISTAKES)
    mistakes = []
    if len(surest):  # a model may have none
        mistakes.append(
            (
                Drawing(
                    "mistakes",
                    f"The validation images that {best} was most sure of, and wrong: "
                    "what it is, what it was taken for, with what probability.",
                    f"The {len(surest)} most confident mistakes of {best}",
                ),
                image_grids.mistakes(
                    valid.images[surest["index"].to_numpy()],
                    surest["label"].to_numpy(),
                    surest[best].to_numpy(),
                    surest[f"{best}_probability"].to_numpy(),
                ),
            )
        )
    bins = results.calibration.query("model == @best")
    ordered = {
        name: (table[name] == table["label"])
        .iloc[np.argsort(-table[f"{name}_probability"].to_numpy(), kind="stable")]
        .to_numpy()
        for name in trained
    }
    error = results.metrics["models"][best]["valid"]["ece"]
    return [
        (
            Drawing(
                "confusion",
                f"What {best} took each class for on the test set; the darker, the "
                "more often.",
                f"Confusion matrix of {best} on the test set",
            ),
            charts.confusion(counts, facts.classes),
        ),
        *mistakes,
        (
            Drawing(
                "reliability",
                f"Of the images that {best} is 80 % sure of, are 80 % right? On the "
                f"dotted line, yes. The mean distance from it (ECE) is {error:.4f}.",
                f"Reliability diagram of {best} on the validation images",
            ),
            charts.reliability(
                *(bins[key].to_numpy() for key in ("confidence", "accuracy", "images"))
            ),
        ),
        (
            Drawing(
                "kept",
                "If the images that a model is least sure of are set aside, for a "
                "person to read, it is right on more of the rest. The dotted line is "
                "where the best model's threshold lies.",
                "Accuracy against the share of images kept, for every model",
            ),
            charts.selective_accuracy(
                ordered, colours, _share_kept(results.metrics, best)
            ),
        ),
    ]


def _counts(
    confusion: pd.DataFrame, best: str, class_names: tuple[str, ...]
) -> npt.NDArray[np.int64]:
    """Return the confusion counts of the best model on test, classes in their order."""
    tested = confusion[(confusion["model"] == best) & (confusion["split"] == "test")]
    counts = tested.pivot_table(index="actual", columns="predicted", values="images")
    return (
        counts.reindex(index=class_names, columns=class_names)
        .to_numpy()
        .astype(np.int64)
    )


def _share_kept(metrics: Mapping[str, Any], best: str) -> float:
    return 1 - float(metrics["models"][best]["kept"]["valid"]["set_aside"])


def _read(models: list[str], networks: list[str], valid: Split) -> Results:
    """Return what evaluate and train wrote of these models.

    Raises:
        BadInput: a file is damaged, or of other models or images.
    """
    predicted: dict[str, type] = {"index": int, "label": str}
    for name in models:
        predicted |= {name: str, f"{name}_probability": float}
    counted = {"model": str, "split": str, "actual": str, "predicted": str}
    binned = {"model": str, "confidence": float, "accuracy": float, "images": int}

    def table(name: str, types: Mapping[str, type]) -> pd.DataFrame:
        return csv_columns.read(REPORTS / f"{name}.csv", types, "evaluate")

    def history(network: str, name: str, column: str) -> np.ndarray:
        path = MODELS / f"{network}.{name}.csv"
        made_by = f"train@{network}"
        return csv_columns.read(path, {column: float}, made_by)[column].to_numpy()

    results = Results(
        metrics=metrics_file.read(REPORTS / "metrics.json"),
        confusion=table("confusion", {**counted, "images": int}),
        calibration=table("calibration", binned),
        predictions=table("predictions", predicted),
        loss={name: history(name, "loss", "loss") for name in networks},
        accuracy={name: history(name, "accuracy", "valid") for name in networks},
    )
    rows = np.arange(len(valid.labels))
    if list(results.metrics["models"]) != models or not np.array_equal(
        results.predictions["index"], rows
    ):
        raise BadInput(
            f"{REPORTS} tells of other models or images; run "
            "`dvc repro --force evaluate`."
        )
    return results


def main() -> None:
    """Run the step on the project's folders."""
    cli.parser(__doc__).parse_args()
    parts = {name: splits.load(NORMALIZED, name) for name in splits.SPLITS}
    trained = model_set.read()
    results = _read(list(trained), model_set.networks(), parts["valid"])
    # Not of params.yaml, but what the models that are shown were trained with.
    params = {name: model.description.parameters for name, model in trained.items()}
    facts = splits.load_facts(NORMALIZED)
    reported = load("report", ReportedResults, dataset_card.selected())
    text, drawn = report(parts, facts, reported, trained, results, params)
    for name, figure in drawn.items():
        files.write_text(REPORTS / "figures" / f"{name}.svg", svg.alone(figure))
    files.write_text(REPORTS / "report.html", text)
    print(f"{REPORTS / 'report.html'}, with {len(drawn)} figures")


if __name__ == "__main__":
    cli.run(main)
