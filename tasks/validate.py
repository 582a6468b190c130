"""Hold the raw data to its dataset card, and report every value that breaks it.

Reads `data/raw/`, writes `reports/validation.json`: what was measured, and of each rule
that is broken the number of failures and the first of them, with row and value. Any
failure stops the pipeline. MNIST takes 1.1 s, most of it for the imports.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.dataset.spec import DatasetSpec
from tasks.dataset.splits import Split
from tasks.rawdata import dataset_card, idx
from tasks.runtime import cli, files
from tasks.runtime.params import BadInput, load
from tasks.validation import schemas, summaries
from tasks.validation.schemas import Breach, DataLimits
from tasks.validation.summaries import NO_ROW

RAW = Path("data/raw")
REPORT = Path("reports/validation.json")
DIGITS = 4  # after the point, in the report


class Validate(DataLimits):
    """Section `validate` of the dataset card."""


@dataclass(frozen=True)
class Report:
    """What `validate` found, ready for JSON.

    Attributes:
        passed: no rule of the dataset card is broken.
        splits: of each split the number of images, of distinct ones and of those that
            are in the training set too (test only), ranges of ink, images per class;
            a split that can't be read as images is left out.
        failed: number of failures of each check that has any.
        failures: the first `schemas.LISTED` failures of each check: its name, its rule,
            where the value stands (split and file, class or row), and the value.
    """

    passed: bool
    splits: dict[str, dict[str, Any]]
    failed: dict[str, int]
    failures: list[dict[str, Any]]


def validate(
    train: Split, test: Split, spec: DatasetSpec, settings: Validate
) -> Report:
    """Return what the data is, and everything in it that breaks the dataset card."""
    per_file = summaries.of_files(train, test)
    images = summaries.of_images(train, test, spec.form.shape)
    per_class = summaries.of_classes(images, len(spec.classes))
    breaches = [
        *schemas.breaches(schemas.of_files(settings, spec), per_file),
        *schemas.breaches(schemas.of_classes(settings), per_class),
        *schemas.breaches(schemas.of_images(settings, spec), images),
    ]
    return Report(
        passed=not breaches,
        splits={
            split: _facts(images.loc[split], per_class.loc[split])
            for split in images.index.unique("split")
        },
        failed={breach.check: breach.count for breach in breaches},
        failures=[failure for breach in breaches for failure in _failures(breach)],
    )


def complaint(report: Report) -> str:
    """Return one sentence on a report that has failures."""
    counts = ", ".join(f"{check} {count}" for check, count in report.failed.items())
    location = dict(report.failures[0])
    check, rule, value = (location.pop(key) for key in ("check", "rule", "value"))
    where = ", ".join(f"{key} {value}" for key, value in location.items())
    shown = f"{value:.6g}" if isinstance(value, float) else value
    return (
        f"{RAW} breaks its dataset card; failures by check: "
        f"{counts}; the first: {rule}, but in {where} `{check}` is {shown}; "
        f"see {REPORT}."
    )


def main() -> None:
    """Run the step on the project's folders."""
    cli.parser(__doc__).parse_args()
    card = dataset_card.selected()
    settings, spec = (
        load("validate", Validate, card),
        load("images", DatasetSpec, card),
    )
    train, test = (
        Split(
            idx.read(RAW / f"{part}-images-idx3-ubyte"),
            idx.read(RAW / f"{part}-labels-idx1-ubyte"),
        )
        for part in ("train", "t10k")
    )
    report = validate(train, test, spec, settings)
    files.write_json(REPORT, asdict(report))
    if not report.passed:
        raise BadInput(complaint(report))
    counts = (f"{name} {facts['images']}" for name, facts in report.splits.items())
    print(f"{', '.join(counts)}; every image and label is as the dataset card says")


def _facts(images: pd.DataFrame, per_class: pd.DataFrame) -> dict[str, Any]:
    """Return what is worth knowing of the images of one split."""
    return {
        "images": len(images),
        "distinct": int((images["repeats"] == NO_ROW).sum()),
        "leaks": int((images["leaks"] != NO_ROW).sum()),
        **{
            f"{column}_{end}": round(images[column].agg(end).item(), DIGITS)
            for column in ("mean_ink", "lit_share", "brightest")
            for end in ("min", "max")
        },
        "per_class": per_class["count"].tolist(),
    }


def _failures(breach: Breach) -> list[dict[str, Any]]:
    """Return a breach's examples, each with its check and its rule."""
    return [
        {"check": breach.check, "rule": breach.rule, **example}
        for example in breach.examples
    ]


if __name__ == "__main__":
    cli.run(main)
