"""Infer the dataset card of new data.

Measures what it can, guesses the rest, and reports every guess. The data is validated
against the card, so the steps that read it will pass.
"""

import json
import math
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from tasks.dataset.spec import DatasetSpec, ImageSpec
from tasks.dataset.splits import Pixels, Split
from tasks.download import Download
from tasks.imaging import segmentation
from tasks.normalize import Normalize
from tasks.rawdata.dataset_card import ReportedResults
from tasks.runtime import params
from tasks.runtime.params import BadInput
from tasks.sources import convert, image_folder, npz
from tasks.sources.convert import Conversion, RawSplits
from tasks.validate import failure_message, validate
from tasks.validation import summaries
from tasks.validation.schemas import DataLimits

TEMPLATE = Path(__file__).with_name("dataset_card.yaml.j2")
SHAPE, BOX = (28, 28), 20  # as in MNIST
DEFAULT_SPEC = ImageSpec(shape=SHAPE, brightest=255, box=None)
BRIGHTEST = (1, 16, 255)  # the usual largest pixels: binary, 16 shades, bytes
HELD_OUT = 6  # one of this many images is for the test, and of the rest for validation
MARGIN = 0.1  # of a measured limit
MAX_CLASSES = 256
SAMPLED = 500  # images that are checked for MNIST's framing
SEED = 0
# Labels are sorted if neighbours differ less often than this share of chance.
SORTED = 0.5


class InferredCard(NamedTuple):
    """A dataset card as YAML, what was measured or left out, and what was guessed."""

    text: str
    findings: list[str]
    assumptions: list[str]


def infer(source: str, name: str, title: str) -> InferredCard:
    """Return the card `name` for the data at `source` (`tasks.sources.convert`)."""
    path, title = Path(source), _clean(title, ".,:'()+-", 100) or "data"
    is_idx = convert.holds_idx(path)
    is_image_folder = path.is_dir() and not is_idx
    arrays = npz.infer_arrays(path) if path.suffix == ".npz" else None
    assumptions: list[str] = []
    spec = _spec_of_image_folder(path, assumptions) if is_image_folder else DEFAULT_SPEC
    parts, notes = convert.read(source, arrays, spec)
    total = sum(len(part.labels) for part in parts.values())
    parts, left_out = convert.distinct(parts)
    if not is_image_folder:
        spec = _spec_of_arrays(parts, assumptions)
    labels, classes = _classes(parts)
    conversion, validation = _conversion(parts, arrays, labels, assumptions)
    train, test = convert.split(parts, conversion, classes)
    _require_every_class(train, test, validation, classes)
    is_converted = not is_idx or left_out or conversion != Conversion()
    limits, measured = _limits(train, test, spec.shape, len(classes))
    text = _render(
        source=source,
        name=name,
        spec=DatasetSpec(title=title, form=spec, classes=classes),
        train=train,
        test=test,
        conversion=conversion if is_converted else None,
        limits=limits,
        measured=measured,
        validation=validation,
        own_validation="valid" in parts,
    )
    _validate(text, train, test)
    size = f"{total} images of {spec.shape[0]} x {spec.shape[1]}"
    names = f"{len(classes)} classes: {', '.join(classes)}"
    return InferredCard(text, [size, names, *notes, *left_out], assumptions)


def name_of(title: str) -> str:
    """Return a valid name for a dataset card."""
    word = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
    return (word if word[:1].isalpha() else f"data_{word}").strip("_")[:40]


def _clean(text: str, punctuation: str, length: int) -> str:
    """Return `text` without other punctuation, starting with a letter or a digit."""
    text = re.sub(rf"[^\w{re.escape(punctuation)}]", " ", text)
    return re.sub(r"^\W+", "", text)[:length].strip()


def _spec_of_image_folder(folder: Path, assumptions: list[str]) -> ImageSpec:
    """Return the specification for class-named folders of images; add assumptions."""
    by_split, n_others = image_folder.find(folder)
    summary = image_folder.summarize(by_split)
    assumptions.append("the folders of images are named after their class")
    if len(by_split) > 1:
        assumptions.append(f"the folders {', '.join(by_split)} are splits of the data")
    if n_others:
        assumptions.append(f"{n_others} other files are not data, and are skipped")
    size = "{} x {}".format(*SHAPE)
    shape = next(iter(summary.shapes))
    if len(summary.shapes) == 1 and max(shape) <= image_folder.SMALL:
        assumptions.append("the images all have one size, so their pixels are kept")
        return ImageSpec(shape=shape, brightest=_brightest(summary.brightest), box=None)
    if summary.on_paper:
        assumptions.append(
            f"the images look like strokes on paper: as in MNIST, the strokes fill a "
            f"box of {BOX} x {BOX}, centred in {size}, bright on dark"
        )
        return ImageSpec(shape=SHAPE, brightest=255, box=BOX)
    assumptions.append(
        f"the images do not look like strokes on paper: they are scaled to {size}"
    )
    return DEFAULT_SPEC


def _spec_of_arrays(parts: RawSplits, assumptions: list[str]) -> ImageSpec:
    """Return the specification of arrays of images; add assumptions."""
    images = [part.images for part in parts.values() if len(part.images)]
    if not images:
        raise BadInput("All images are blank.")
    largest = max(int(each.max()) for each in images)
    brightest = _brightest(largest)
    if brightest != largest:
        assumptions.append(
            f"pixels go up to {largest} here, but up to {brightest} is possible"
        )
    box = BOX if _is_boxed(images[0][:SAMPLED]) else None
    if box:
        assumptions.append(f"as in MNIST, the strokes fill a box of {BOX} x {BOX}")
    rows, columns = images[0].shape[1:]
    return ImageSpec(shape=(rows, columns), brightest=brightest, box=box)


def _is_boxed(images: Pixels) -> bool:
    """Return whether the foreground of nearly every image fills the centred box."""
    if images.shape[1:] != SHAPE:
        return False
    boxed = 0
    for image in images:
        top, left, bottom, right = segmentation.box(image > 0)
        offset = np.array(segmentation.centre(image)) - np.array(SHAPE) / 2
        side = max(bottom - top, right - left)
        boxed += BOX - 1 <= side <= BOX and bool((abs(offset) <= 1).all())
    return boxed >= image_folder.NEARLY * len(images)


def _brightest(largest: int) -> int:
    return next(brightest for brightest in BRIGHTEST if brightest >= largest)


def _classes(parts: RawSplits) -> tuple[tuple[int | str, ...] | None, tuple[str, ...]]:
    """Return the label of each class (None: 0, 1, 2, ...), and its name."""
    values = np.unique(np.concatenate([part.labels for part in parts.values()]))
    labels: tuple[int | str, ...] = tuple(values.tolist())
    if not 2 <= len(labels) <= MAX_CLASSES:
        raise BadInput(
            f"The data has {len(labels)} different labels, but 2 to {MAX_CLASSES} "
            "classes are supported."
        )
    names = tuple(_clean(str(label), ".+-", 40) for label in labels)
    if len(set(names)) < len(names) or "" in names:
        shown = ", ".join(map(repr, labels))
        raise BadInput(f"The labels {shown} can't be class names; use letters, digits.")
    return (None if labels == tuple(range(len(labels))) else labels), names


def _conversion(
    parts: RawSplits,
    arrays: npz.ArrayNames | None,
    labels: tuple[int | str, ...] | None,
    assumptions: list[str],
) -> tuple[Conversion, int]:
    """Return how the files are made, and the number of validation images."""
    for part, (x, y) in (arrays or {}).items():
        assumptions.append(f"{part}: the images are `{x}`, their labels `{y}`")
    if labels is None:
        assumptions.append("the classes are named after their labels")
    train = parts["train"].labels
    total, seed, test = len(train), None, None
    if _is_sorted(train):
        seed = SEED
        assumptions.append(
            f"the training images are sorted by class: they are shuffled (seed {SEED})"
        )
    if "test" not in parts:
        test = total // HELD_OUT
        assumptions.append(f"test: the last {test} of {total} images")
        total -= test
    if "valid" in parts:
        validation = len(parts["valid"].labels)
    else:
        validation = total // HELD_OUT
        assumptions.append(
            f"validation: the last {validation} of the {total} training images"
        )
    return Conversion(arrays=arrays, labels=labels, seed=seed, test=test), validation


def _is_sorted(labels: Any) -> bool:
    """Return whether adjacent labels differ far less often than by chance."""
    _, counts = np.unique(labels, return_counts=True)
    expected = 1 - float(((counts / counts.sum()) ** 2).sum())
    return float((labels[1:] != labels[:-1]).mean()) < SORTED * expected


def _require_every_class(
    train: Split, test: Split, validation: int, classes: tuple[str, ...]
) -> None:
    """Raise BadInput if a split has no images of a class."""
    cut = len(train.labels) - validation
    parts = {"training": train.labels[:cut], "validation": train.labels[cut:]}
    for split, labels in {**parts, "test": test.labels}.items():
        counts = np.bincount(labels, minlength=len(classes))
        if not counts.all():
            raise BadInput(
                f"There are too few images: the {split} set has none of class "
                f"{classes[counts.argmin()]}."
            )


def _limits(
    train: Split, test: Split, shape: tuple[int, int], n_classes: int
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return limits that the data meets with a margin, and the measured ranges."""
    images = summaries.of_images(train, test, shape)
    classes = summaries.of_classes(images, n_classes)
    pixels = images[["mean_pixel", "foreground_share", "brightest"]]
    limits, measured = {}, {}
    for name, values in (("class_share", classes["class_share"]), *pixels.items()):
        low, high = float(values.min()), float(values.max())
        below = math.floor(low * (1 - MARGIN) * 1e4) / 1e4
        above = math.ceil(high * (1 + MARGIN) * 1e4) / 1e4
        limits[str(name)] = [below, min(above, 1.0 if "share" in str(name) else 255.0)]
        measured[str(name)] = f"{low:.4g} to {high:.4g}"
    return limits, measured


def _render(source: str, train: Split, test: Split, **values: object) -> str:
    """Return the dataset card as YAML."""
    contents = convert.files(train, test)
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701  # YAML, with quoted values
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = _quoted
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        source=source,
        origin=params.printable(source),
        counts={"train": len(train.labels), "test": len(test.labels)},
        sha256=convert.digests(contents),
        max_bytes=max(map(len, contents.values())),
        **values,
    )


def _quoted(value: object) -> str:
    """Return a value as YAML, text in quotes."""
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        raise BadInput(f"{text!a} can't be written into a dataset card; rename it.")
    return text


def _validate(text: str, train: Split, test: Split) -> None:
    """Validate the data against the card, read as the steps read it."""
    with tempfile.TemporaryDirectory() as folder:
        card = Path(folder, "card.yaml")
        card.write_text(text, encoding="utf-8")
        params.load("download", Download, card)
        params.load("normalize", Normalize, card)
        params.load("report", ReportedResults, card)
        spec = params.load("images", DatasetSpec, card)
        limits = params.load("validate", DataLimits, card)
    report = validate(train, test, spec, limits)
    if not report.passed:
        raise BadInput(failure_message(report))
