"""Classify images of any size: PNG, JPEG, TIFF, IDX, .npy, .npz, or folders.

Reads the images, the champion (or the best model, or the one named) and the section
`evaluate` of params.yaml. Writes three files into a folder: `contact_sheet.html`, the
least certain images; `predictions.json`, which model, and how many; and last the table,
`predictions.csv` or `predictions.parquet`.

An image that can't be used is a row with its reason, and stops nothing.
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
from tasks.inference.image_stream import Batch
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
MOST_SHOWN, MOST_LISTED = 500, 20
# A list of paths of this length is a mistake.
MOST_LIST_BYTES = 1_000_000_000


class Chosen(NamedTuple):
    """The model that is used: its name, its file's MD5, and the code that made it."""

    name: str
    md5: str
    revision: str | None
    model: Model


def predict(
    predictor: Classifier, batches: Iterable[Batch]
) -> Iterator[tuple[Batch, Rows]]:
    """Yield each batch of images with its rows of the table."""
    uncertain = "uncertain"
    if predictor.threshold is not None:
        uncertain = f"its probability is below {predictor.threshold:.4f}"
    limit = np.inf if predictor.threshold is None else predictor.threshold
    for batch in batches:
        best, probability, runner_up = predictor.predict(batch.images)
        usable = np.ones(len(best), np.bool_)
        reason = (probability < limit).astype(np.int32)
        reasons = ["", uncertain]
        for row, why in batch.reasons.items():
            usable[row] = False
            reason[row] = len(reasons)
            reasons.append(why)
        columns = (best, probability, runner_up, usable, reasons, reason)
        yield batch, Rows(batch.paths, batch.file, batch.number, *columns)


def choose(wanted: str | None, start: Path) -> Chosen:
    """Return the model to use.

    Args:
        wanted: its name, or a path, which begins at `start` if it is relative; None for
            the champion, or the best of this run if there is no champion.
        start: a folder.

    Raises:
        BadInput: there is no such model, or no model yet.
    """
    record = champions.current()
    if wanted in (None, CHAMPION) and record:
        content = _content(champions.FILE)
        reason = f"{champions.FILE} is not its file"
        if content and champions.md5(content) == record.md5:
            try:
                return _champion(record)
            except model_file.Outdated as outdated:
                reason = str(outdated)
        _say(f"The champion, {record.model}, can't be used: {reason.rstrip('.')}.")
    if wanted == CHAMPION:
        raise BadInput("There is no champion to be used; name another model.")
    return _of_file(wanted or _best(), start)


def _champion(record: champions.Record) -> Chosen:
    model = model_file.load(champions.FILE)
    return Chosen(record.model, record.md5, record.revision, model)


def _best() -> str:
    try:
        name = str(metrics_file.read(METRICS)["best"])
    except FileNotFoundError:
        raise BadInput(
            "There is no champion and no best model yet; run `python -m flows.pipeline`"
            ", or name a model's file."
        ) from None
    _say(f"The best model of {METRICS} is used: {name}.")
    return name


def _of_file(wanted: str, start: Path) -> Chosen:
    """Return the model of that name, or at that path."""
    is_name = Path(wanted).name == wanted and not wanted.endswith(".safetensors")
    path = MODELS / f"{wanted}.safetensors" if is_name else start / wanted
    content = _content(path)
    if content is None:
        there = ", ".join(sorted(one.stem for one in MODELS.glob("*.safetensors")))
        raise BadInput(
            f"There is no model {wanted!r}; name one of {there or '(none yet)'}, or a "
            "path."
        )
    name = wanted if is_name else path.stem
    return Chosen(
        name, champions.md5(content), provenance.revision(), model_file.load(path)
    )


def _content(path: Path) -> bytes | None:
    return files.read_bytes(path, model_file.MAX_BYTES) if path.exists() else None


def write(
    wanted: list[image_stream.InputFile],
    chosen: Chosen,
    out: Path,
    file_format: Format,
    most: int,
) -> dict[str, Any]:
    """Predict, and write the three files into the folder `out`; return the summary."""
    output_table.require(file_format)
    settings = load("evaluate", ErrorLimit)
    predictor = classifier.prepare(chosen.model, settings.max_error)
    queue = ReviewQueue(most)
    extent = image_stream.extent(wanted)
    table = out / f"predictions.{file_format}"
    with (
        files.replacing(table) as temporary,
        output_table.writing(temporary, file_format, predictor.class_names) as append,
        tqdm(
            desc="predict", total=extent.whole, unit="image", unit_scale=True, delay=1
        ) as bar,
    ):
        for batch, rows in predict(
            predictor, image_stream.stream(wanted, predictor.image_spec)
        ):
            append(rows)
            queue.add(rows, batch.images)
            bar.update(batch.done)
        summary = _summary(chosen, predictor, settings, queue) | {
            "ignored_files": extent.ignored
        }
        files.write_text(
            out / REVIEW_PAGE,
            review_page.render(
                queue, summary, predictor.class_names, predictor.image_spec.brightest
            ),
        )
        files.write_json(out / SUMMARY, summary)
    return summary


def _summary(
    chosen: Chosen, predictor: Classifier, settings: ErrorLimit, queue: ReviewQueue
) -> dict[str, Any]:
    """Return what is written beside the predictions."""
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
            {
                "path": one.path,
                "image": one.image,
                "prediction": predictor.class_names[one.prediction],
                "probability": round(one.probability, output_table.DIGITS),
                "runner_up": predictor.class_names[one.runner_up],
                "reason": one.reason,
            }
            for one in queue.least_certain()[:MOST_LISTED]
        ],
    }


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _listed(path: str) -> list[str]:
    """Return the paths that a file lists, each ended by a zero byte (`-print0`)."""
    if path == "-":
        content = sys.stdin.buffer.read(MOST_LIST_BYTES)
    else:
        content = files.read_bytes(Path(path), MOST_LIST_BYTES)
    return [os.fsdecode(each) for each in content.split(b"\0") if each]


def _arguments() -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a file or a folder")
    parser.add_argument(
        "--list", metavar="FILE", help="paths, each ended by a zero byte; - reads them"
    )
    parser.add_argument(
        "--model",
        help="a model's name, or a path; the champion or the best if none is named",
    )
    parser.add_argument("--out", type=Path, default=OUT, help="the folder to write to")
    parser.add_argument("--format", choices=output_table.FORMATS, default="csv")
    parser.add_argument(
        "--start", type=Path, default=Path(), help="where relative paths begin"
    )
    parser.add_argument(
        "--most", type=int, default=MOST_SHOWN, help="images on the contact sheet"
    )
    arguments = parser.parse_args()
    arguments.paths += _listed(arguments.list) if arguments.list else []
    if not arguments.paths:
        parser.error("name a file or a folder")
    return arguments


def main() -> None:
    """Run the step on what the user names."""
    arguments = _arguments()
    summary = write(
        image_stream.input_files(arguments.paths, arguments.start),
        choose(arguments.model, arguments.start),
        arguments.out,
        arguments.format,
        max(0, arguments.most),
    )
    print(announcement(summary, arguments.out))


def announcement(summary: dict[str, Any], out: Path) -> str:
    """Return what was done in one sentence."""
    left = summary["ignored_files"]
    passed = f"; {left:,} files of other kinds were passed over" if left else ""
    return (
        f"{summary['images']:,} images read by {summary['model']} "
        f"({summary['md5'][:8]}): {summary['set_aside']:,} set aside, "
        f"{summary['unusable']:,} of them unusable; the table is in {out}{passed}."
    )


if __name__ == "__main__":
    cli.run(main)
