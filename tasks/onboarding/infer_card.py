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
from tasks.sources.convert import Conversion, Parts
from tasks.sources.fetch import Files
from tasks.validate import Validate, failure_message, validate
from tasks.validation import summaries

TEMPLATE = Path(__file__).with_name("dataset_card.yaml.j2")
SHAPE, BOX = (28, 28), 20  # as in MNIST
DEFAULT_SPEC = ImageSpec(shape=SHAPE, brightest=255, box=None)
BRIGHTEST = (1, 16, 255)  # the usual largest pixels: binary, 16 shades, bytes
HELD_OUT = 6  # one of this many images is for the test, and of the rest for validation
MARGIN = 0.1  # of a measured limit
MAX_CLASSES = 256
SAMPLED = 500  # images that are checked for MNIST's framing
SEED = 0
# Images are sorted if adjacent labels differ less often than this share of chance.
SORTED = 0.5


class InferredCard(NamedTuple):
    """A dataset card as YAML, what was measured or left out, and what was guessed."""

    text: str
    findings: list[str]
    assumptions: list[str]


def infer(source: str, name: str, title: str) -> InferredCard:
    """Return the card `name` for the data at `source` (`tasks.sources.convert`).

    Raises:
        BadInput: the data can't be used as a data set.
    """
    path = Path(source)
    is_idx = convert.holds_idx(path)
    is_image_folder = path.is_dir() and not is_idx
    arrays: Any = npz.infer_arrays(path) if path.suffix == ".npz" else None
    spec, guesses = DEFAULT_SPEC, list[str]()
    if is_image_folder:
        spec, guesses = _spec_of_image_folder(path)
    parts, notes = convert.read(source, arrays, spec)
    total = sum(len(part.labels) for part in parts.values())
    parts, left_out = convert.distinct(parts)
    if not is_image_folder:
        spec, guesses = _spec_of_arrays(parts)
    labels, classes = _classes(parts)
    conversion = _conversion(parts, arrays, labels)
    train, test = convert.split(parts, conversion, classes)
    own = parts.get("valid")
    validation = len(own.labels) if own else len(train.labels) // HELD_OUT
    _require_every_class(train, test, validation, classes)
    limits, measured = _limits(train, test, spec.shape, len(classes))
    text = _render(
        source=source,
        name=name,
        spec=DatasetSpec(title=_title(title), form=spec, classes=classes),
        train=len(train.labels),
        test=len(test.labels),
        files=convert.files(train, test),
        # IDX files that need no conversion are downloaded as they are.
        conversion=None
        if is_idx and not left_out and conversion == Conversion()
        else conversion,
        limits=limits,
        measured=measured,
        validation=validation,
        own_validation=bool(own),
    )
    _validate(text, train, test)
    rows, columns = spec.shape
    size = f"{total} images of {rows} x {columns}"
    names = f"{len(classes)} classes: {', '.join(classes)}"
    guesses += _assumptions(conversion, parts, train, validation)
    return InferredCard(text, [size, names, *notes, *left_out], guesses)


def name_of(title: str) -> str:
    """Return a valid name for a dataset card."""
    word = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
    return (word if word[:1].isalpha() else f"data_{word}").strip("_")[:40]


def _spec_of_image_folder(folder: Path) -> tuple[ImageSpec, list[str]]:
    """Return the specification for class-named folders of images, and assumptions."""
    by_split, n_others = image_folder.find(folder)
    summary = image_folder.summarize(by_split)
    assumptions = ["the folders of images are named after their class"]
    if len(by_split) > 1:
        assumptions.append(f"the folders {', '.join(by_split)} are splits of the data")
    if n_others:
        assumptions.append(f"{n_others} other files are not data, and are skipped")
    rows, columns = SHAPE
    shape = next(iter(summary.shapes))
    if len(summary.shapes) == 1 and max(shape) <= image_folder.SMALL:
        spec = ImageSpec(shape=shape, brightest=_brightest(summary.brightest), box=None)
        assumptions.append("the images all have one size, so their pixels are kept")
    elif summary.on_paper:
        spec = ImageSpec(shape=SHAPE, brightest=255, box=BOX)
        assumptions.append(
            "the images look like strokes on paper: the strokes are scaled into a box "
            f"of {BOX} x {BOX} and centred in {rows} x {columns}, bright on dark, as "
            "in MNIST"
        )
    else:
        spec = DEFAULT_SPEC
        assumptions.append(
            "the images do not look like strokes on paper: each whole image is scaled "
            f"to {rows} x {columns}"
        )
    return spec, assumptions


def _spec_of_arrays(parts: Parts) -> tuple[ImageSpec, list[str]]:
    """Return the specification of arrays of images, and assumptions."""
    images = [part.images for part in parts.values() if len(part.images)]
    if not images:
        raise BadInput("All images are blank.")
    assumptions = []
    largest = max(int(each.max()) for each in images)
    brightest = _brightest(largest)
    if brightest != largest:
        assumptions.append(
            f"the brightest pixel is {largest}, but up to {brightest} is possible"
        )
    box = BOX if _is_boxed(images[0][:SAMPLED]) else None
    if box:
        assumptions.append(
            f"the images are framed as in MNIST: strokes in a centred box of {BOX} x "
            f"{BOX}"
        )
    rows, columns = images[0].shape[1:]
    return ImageSpec(shape=(rows, columns), brightest=brightest, box=box), assumptions


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


def _classes(parts: Parts) -> tuple[tuple[int | str, ...] | None, tuple[str, ...]]:
    """Return the label of each class (None: 0, 1, 2, ...), and its name."""
    values = np.unique(np.concatenate([part.labels for part in parts.values()]))
    labels: tuple[int | str, ...] = tuple(values.tolist())
    if not 2 <= len(labels) <= MAX_CLASSES:
        raise BadInput(
            f"The data has {len(labels)} different labels, but 2 to {MAX_CLASSES} "
            "classes are supported."
        )
    words = [re.sub(r"[^\w .+-]", " ", str(label)) for label in labels]
    names = tuple(re.sub(r"^\W+", "", word)[:40].strip() for word in words)
    if len(set(names)) < len(names) or "" in names:
        raise BadInput(
            f"The labels {', '.join(map(repr, labels))} can't all become class names; "
            "choose labels that differ in letters and digits."
        )
    return (None if labels == tuple(range(len(labels))) else labels), names


def _title(text: str) -> str:
    return re.sub(r"^\W+", "", re.sub(r"[^\w .,:'()+-]", " ", text))[:100] or "data"


def _conversion(
    parts: Parts, arrays: Any, labels: tuple[int | str, ...] | None
) -> Conversion:
    """Return how the four files are made."""
    train = parts["train"].labels
    _, counts = np.unique(train, return_counts=True)
    # The probability that two labels differ by chance.
    expected = 1 - float(((counts / counts.sum()) ** 2).sum())
    is_sorted = float((train[1:] != train[:-1]).mean()) < SORTED * expected
    return Conversion(
        arrays=arrays,
        labels=labels,
        seed=SEED if is_sorted else None,
        test=None if "test" in parts else len(train) // HELD_OUT,
    )


def _assumptions(
    conversion: Conversion, parts: Parts, train: Split, validation: int
) -> list[str]:
    """Return what was guessed about labels and splits, in words."""
    assumptions = [
        f"{part}: the images are `{images}`, their labels `{labels}`"
        for part, (images, labels) in (conversion.arrays or {}).items()
    ]
    if conversion.labels is None:
        assumptions.append("the classes are named after their labels")
    if conversion.seed is not None:
        assumptions.append(
            f"the training images are sorted by class: they are shuffled (seed {SEED})"
        )
    if conversion.test:
        total = len(parts["train"].labels)
        assumptions.append(f"test: the last {conversion.test} of {total} images")
    if "valid" not in parts:
        total = len(train.labels)
        assumptions.append(
            f"validation: the last {validation} of the {total} training images"
        )
    return assumptions


def _require_every_class(
    train: Split, test: Split, validation: int, classes: tuple[str, ...]
) -> None:
    """Raise BadInput if a split has no images of a class."""
    cut = len(train.labels) - validation
    for split, labels in (
        ("training", train.labels[:cut]),
        ("validation", train.labels[cut:]),
        ("test", test.labels),
    ):
        missing = np.setdiff1d(np.arange(len(classes)), labels)
        if len(missing):
            raise BadInput(
                f"There are too few images: the {split} set has none of class "
                f"{', '.join(classes[label] for label in missing)}."
            )


def _limits(
    train: Split, test: Split, shape: tuple[int, int], n_classes: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return limits that the data meets with a margin, and the measured ranges."""
    images = summaries.of_images(train, test, shape)
    classes = summaries.of_classes(images, n_classes)
    limits: dict[str, Any] = {}
    measured = {}
    for name, values, largest in (
        ("class_share", classes["class_share"], 1.0),
        ("mean_pixel", images["mean_pixel"], 255.0),
        ("foreground_share", images["foreground_share"], 1.0),
        ("brightest", images["brightest"], 255.0),
    ):
        low, high = float(values.min()), float(values.max())
        below = math.floor(low * (1 - MARGIN) * 1e4) / 1e4
        above = math.ceil(high * (1 + MARGIN) * 1e4) / 1e4
        limits[name] = [below, min(above, largest)]
        measured[name] = f"{low:.4g} to {high:.4g}"
    return limits, measured


def _render(source: str, files: Files, **values: object) -> str:
    """Return the dataset card as YAML."""
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701  # YAML, with quoted values
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = _quoted
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        source=source,
        origin=params.printable(source),
        sha256=convert.digests(files),
        max_bytes=max(map(len, files.values())),
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
        limits = params.load("validate", Validate, card)
    report = validate(train, test, spec, limits)
    if not report.passed:
        raise BadInput(failure_message(report))
