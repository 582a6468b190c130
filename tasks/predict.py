"""Classify images of any size: PNG, JPEG, TIFF, IDX, .npy, .npz, or folders of them.

Reads the images, a model (the champion, or the best model if there is no champion, or
the one given by --model) and the section `evaluate` of params.yaml. Writes three files
to a folder: `contact_sheet.html` with the least certain images; `predictions.json` with
the model and the counts; and the table, `predictions.csv` or `predictions.parquet`.

An image that can't be used is a row with the reason; the others are still classified.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from tasks.evaluation import metrics_file
from tasks.evaluation.model_set import MODELS
from tasks.inference import classifier, image_stream, output_table, review_page
from tasks.inference.classifier import Classifier
from tasks.inference.image_stream import Batch, InputFiles
from tasks.inference.output_table import Format, Rows
from tasks.inference.review_page import ReviewQueue
from tasks.modeling import model_file
from tasks.modeling.calibration import ErrorLimit
from tasks.modeling.model_file import Model
from tasks.registry import champions, provenance
from tasks.runtime import cli, files
from tasks.runtime.params import BadInput, load

METRICS = Path("reports/metrics.json")
OUT = Path("predictions")
REVIEW_PAGE, SUMMARY = "contact_sheet.html", "predictions.json"
CHAMPION = "champion"
REVIEW_IMAGES = 500  # on the contact sheet, by default
SUMMARY_IMAGES = 20  # in the summary
MAX_LIST_BYTES = 1_000_000_000  # a longer list of paths is a mistake


class Chosen(NamedTuple):
    """A model: its name, its file's MD5, and the revision of the code that made it."""

    name: str
    md5: str
    revision: str | None
    model: Model


def predict(
    predictor: Classifier, batches: Iterable[Batch]
) -> Iterator[tuple[Batch, Rows]]:
    """Yield each batch of images with its rows of the table."""
    threshold, uncertain = np.inf, "uncertain"
    if predictor.threshold is not None:
        threshold = predictor.threshold
        uncertain = f"its probability is below {threshold:.4f}"
    for batch in batches:
        predictions = predictor.predict(batch.images)
        reason = (predictions.probability < threshold).astype(np.int32)
        reasons = ["", uncertain, *batch.reasons.values()]
        usable = np.ones(len(reason), np.bool_)
        for number, row in enumerate(batch.reasons, start=2):
            reason[row], usable[row] = number, False
        rows = Rows(batch.path, batch.first, predictions, usable, reason, reasons)
        yield batch, rows


def choose(wanted: str | None, start: Path) -> Chosen:
    """Load a model by its name, or by its path relative to `start`.

    None means the champion, or the best model of the last run if there is no champion.
    """
    if wanted in (None, CHAMPION):
        record = champions.current()
        champion = _load_champion(record) if record else None
        if champion:
            return champion
        if wanted == CHAMPION:
            raise BadInput("No champion can be used; choose another model.")
    name = wanted or _best()
    is_name = Path(name).name == name and not name.endswith(".safetensors")
    path = MODELS / f"{name}.safetensors" if is_name else start / name
    if not path.exists():
        names = ", ".join(sorted(path.stem for path in MODELS.glob("*.safetensors")))
        raise BadInput(
            f"There is no model {name!r}; choose one of {names or '(none yet)'}, or "
            "give a path."
        )
    md5 = champions.md5(files.read_bytes(path, model_file.MAX_BYTES))
    return Chosen(path.stem, md5, provenance.revision(), model_file.load(path))


def _load_champion(record: champions.Record) -> Chosen | None:
    """Load the champion; if its file can't be used, say why and return None."""
    reason = f"{champions.FILE} is missing or is not the champion's file."
    if champions.has_model(record):
        try:
            model = model_file.load(champions.FILE)
            return Chosen(record.model, record.md5, record.revision, model)
        except model_file.Outdated as error:
            reason = str(error)
    print(f"The champion, {record.model}, can't be used: {reason}", file=sys.stderr)
    return None


def _best() -> str:
    try:
        name = str(metrics_file.read(METRICS)["best"])
    except FileNotFoundError:
        raise BadInput(
            "There is no champion and no best model yet; run `python -m flows.pipeline`"
            ", or give the path of a model."
        ) from None
    print(f"Using the best model of {METRICS}: {name}.", file=sys.stderr)
    return name


def write(
    inputs: InputFiles, chosen: Chosen, out: Path, file_format: Format, most: int
) -> dict[str, Any]:
    """Classify images, write the three files to `out`, and return the summary.

    The contact sheet has at most `most` images. The table gets its name last.
    """
    settings = load("evaluate", ErrorLimit)
    predictor = classifier.prepare(chosen.model, settings.max_error)
    class_names, image_spec = predictor.class_names, predictor.image_spec
    queue = ReviewQueue(most, class_names)
    with (
        files.replacing(out / f"predictions.{file_format}") as table,
        output_table.writing(table, file_format, class_names) as append,
        tqdm(desc="predict", unit="image", unit_scale=True, delay=1) as bar,
    ):
        bar.total = image_stream.count_images(inputs)
        batches = image_stream.stream(inputs, image_spec)
        for batch, rows in predict(predictor, batches):
            append(rows)
            queue.add(rows, batch.images)
            bar.update(len(batch.images))
        summary = _summary(chosen, predictor, settings, queue)
        summary["ignored_files"] = inputs.ignored
        page = review_page.render(queue, summary, image_spec.brightest)
        files.write_text(out / REVIEW_PAGE, page)
        files.write_json(out / SUMMARY, summary)
    return summary


def _summary(
    chosen: Chosen, predictor: Classifier, settings: ErrorLimit, queue: ReviewQueue
) -> dict[str, Any]:
    return {
        "model": chosen.name,
        "md5": chosen.md5,
        "revision": chosen.revision,
        "temperature": predictor.temperature,
        "threshold": predictor.threshold,
        "max_error": settings.max_error,
        "form": list(predictor.image_spec.shape),
        "images": queue.images,
        "set_aside": queue.set_aside,
        "unusable": queue.unusable.total(),
        "reasons": dict(sorted(queue.unusable.items())),
        "least_certain": [
            {name: value for name, value in image._asdict().items() if name != "pixels"}
            | {"probability": round(image.probability, output_table.DIGITS)}
            for image in queue.least_certain[:SUMMARY_IMAGES]
        ],
    }


def _listed(path: str) -> list[str]:
    """Return the paths listed in a file, each ended by a zero byte (`-print0`)."""
    if path == "-":
        content = sys.stdin.buffer.read(MAX_LIST_BYTES)
    else:
        content = files.read_bytes(Path(path), MAX_LIST_BYTES)
    return [os.fsdecode(name) for name in content.split(b"\0") if name]


def _arguments() -> argparse.Namespace:
    parser = cli.parser(__doc__)
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="a file or a folder")
    add(
        "--list",
        metavar="FILE",
        help="read paths from FILE, each ended by a zero byte; - is the standard input",
    )
    add(
        "--model",
        help="the name or path of a model; by default the champion, or the "
        "best model if there is no champion",
    )
    add("--out", type=Path, default=OUT, help="the folder to write to")
    add("--format", choices=output_table.FORMATS, default="csv")
    add("--start", type=Path, default=Path(), help="the folder of relative paths")
    add("--most", type=int, default=REVIEW_IMAGES, help="images on the contact sheet")
    arguments = parser.parse_args()
    arguments.paths += _listed(arguments.list) if arguments.list else []
    if not arguments.paths:
        parser.error("name a file or a folder")
    return arguments


def main() -> None:
    """Run the step with the arguments of the command line."""
    arguments = _arguments()
    summary = write(
        image_stream.input_files(arguments.paths, arguments.start),
        choose(arguments.model, arguments.start),
        arguments.out,
        arguments.format,
        max(0, arguments.most),
    )
    ignored = summary["ignored_files"]
    note = f"; {ignored:,} other files were ignored" if ignored else ""
    print(
        f"{summary['images']:,} images read by {summary['model']} "
        f"({summary['md5'][:8]}): {summary['set_aside']:,} set aside, "
        f"{summary['unusable']:,} of them unusable; the table is in "
        f"{arguments.out}{note}."
    )


if __name__ == "__main__":
    cli.run(main)
