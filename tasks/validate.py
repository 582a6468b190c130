"""Validate the raw data against its dataset card and report every failure.

Reads `data/raw/` and writes `reports/validation.json`: a summary of the data, the
number of failures of each check, and the first failures with row and value. Any failure
stops the pipeline. MNIST takes 1.1 s, most of it for the imports.
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
from tasks.validation.schemas import DataLimits
from tasks.validation.summaries import NO_MATCH

RAW = Path("data/raw")
REPORT = Path("reports/validation.json")
LISTED = 20  # failures of a check that the report lists; all are counted
DIGITS = 4  # decimals in the report


@dataclass(frozen=True)
class Report:
    """Content of `reports/validation.json`.

    Attributes:
        passed: whether all checks passed.
        splits: for each readable split the number of images, of distinct images and of
            test images that are in the training set too, the ranges of pixel
            statistics, and the number of images per class.
        failed: number of failures of each check that failed.
        failures: the first `LISTED` of them, as in `schemas.failures`.
    """

    passed: bool
    splits: dict[str, dict[str, Any]]
    failed: dict[str, int]
    failures: list[dict[str, Any]]


def validate(
    train: Split, test: Split, spec: DatasetSpec, limits: DataLimits
) -> Report:
    """Return a summary of the data and every value that breaks the dataset card."""
    per_file = summaries.of_files(train, test)
    images = summaries.of_images(train, test, spec.form.shape)
    per_class = summaries.of_classes(images, len(spec.classes))
    failures = {
        **schemas.failures(schemas.of_files(limits, spec), per_file),
        **schemas.failures(schemas.of_classes(limits), per_class),
        **schemas.failures(schemas.of_images(limits, spec), images),
    }
    return Report(
        passed=not failures,
        splits={
            split: _summarize(images.loc[split], per_class.loc[split])
            for split in images.index.unique("split")
        },
        failed={check: len(cases) for check, cases in failures.items()},
        failures=[case for cases in failures.values() for case in cases[:LISTED]],
    )


def failure_message(report: Report) -> str:
    """Return one sentence about a report that has failures."""
    counts = ", ".join(f"{check} {count}" for check, count in report.failed.items())
    location = dict(report.failures[0])
    check, rule, value = (location.pop(key) for key in ("check", "rule", "value"))
    where = ", ".join(f"{key} {index}" for key, index in location.items())
    shown = f"{value:.6g}" if isinstance(value, float) else value
    return (
        f"{RAW} breaks its dataset card; failures by check: {counts}; the "
        f"first: {rule}, but in {where} `{check}` is {shown}; see {REPORT}."
    )


def main() -> None:
    """Run the step on the project's folders."""
    cli.parser(__doc__).parse_args()
    card = dataset_card.selected()
    limits = load("validate", DataLimits, card)
    spec = load("images", DatasetSpec, card)
    train, test = idx.read_splits(RAW)
    report = validate(train, test, spec, limits)
    files.write_json(REPORT, asdict(report))
    if not report.passed:
        raise BadInput(failure_message(report))
    counts = (f"{name} {split['images']}" for name, split in report.splits.items())
    print(f"{', '.join(counts)}; every image and label matches the dataset card")


def _summarize(images: pd.DataFrame, per_class: pd.DataFrame) -> dict[str, Any]:
    return {
        "images": len(images),
        "distinct": int((images["repeats"] == NO_MATCH).sum()),
        "leaks": int((images["leaks"] != NO_MATCH).sum()),
        **{
            f"{column}_{end}": round(images[column].agg(end).item(), DIGITS)
            for column in ("mean_pixel", "foreground_share", "brightest")
            for end in ("min", "max")
        },
        "per_class": per_class["count"].tolist(),
    }


if __name__ == "__main__":
    cli.run(main)
