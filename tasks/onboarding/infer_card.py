"""Infer the dataset card of new data.

Measures what it can, guesses the rest, and reports every guess. The data is validated
against the card before the card is written, so the steps that read it will pass.
"""

import json
import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from tasks.dataset.spec import DatasetSpec, ImageSpec
from tasks.dataset.splits import Pixels, Split, SplitName
from tasks.download import Download
from tasks.imaging import segmentation
from tasks.normalize import Normalize
from tasks.rawdata.dataset_card import ReportedResults
from tasks.runtime import files, params
from tasks.runtime.params import BadInput
from tasks.sources import convert, fetch, image_folder, npz
from tasks.sources.convert import Conversion, RawSplits
from tasks.sources.image_folder import FolderSummary
from tasks.validate import Validate, complaint, validate
from tasks.validation import summaries
from tasks.validation.schemas import Counts

TEMPLATE = Path(__file__).with_name("dataset_card.yaml.j2")
# MNIST's, to which images of several sizes are brought.
SHAPE, BOX = (28, 28), 20
# The largest pixel is one of these: of yes and no, of 16 shades, of a byte.
BRIGHTEST = (1, 16, 255)
HELD_OUT = 6  # one of so many images is for the test, and of the rest for validation
MARGIN = 0.1  # of a measured limit
MAX_CLASSES = 256
LOOKED_AT = 500  # images, by which it is told whether they were made as MNIST's
SEED = 0
# Neighbours of different classes, as a share of what chance makes of them.
ORDERED = 0.5
PLACEHOLDER = ImageSpec(shape=SHAPE, brightest=255, box=None)


@dataclass(frozen=True)
class InferredCard:
    """New data, and what its dataset card will say.

    Attributes:
        source: as written in the card.
        spec: of the images.
        conversion: how the four files are made; None: they exist.
        train: the training images; the last ones are for validation.
        test: the test images.
        validation: how many those are.
        own_validation: the data has validation images of its own.
        assumptions: what was guessed, a sentence each.
        found: what was found and done, a sentence each.
    """

    source: str
    spec: DatasetSpec
    conversion: Conversion | None
    train: Split
    test: Split
    validation: int
    own_validation: bool
    assumptions: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)


def infer(source: str, called: str) -> InferredCard:
    """Return what the bundle `source` is (`tasks.sources.convert`), called `called`.

    Raises:
        BadInput: no data set can be made of it.
    """
    assumptions: list[str] = []
    image_spec, found = _spec_of_image_folder(source, assumptions)
    arrays: Any = (
        npz.infer_arrays(Path(source)) if Path(source).suffix == ".npz" else None
    )
    for part, (images, labels) in (arrays or {}).items():
        assumptions.append(
            f"{part}: the images are `{images}`, their labels `{labels}`"
        )
    parts, notes = convert.read(source, arrays, image_spec or PLACEHOLDER)
    whole = sum(len(part.labels) for part in parts.values())
    parts, left_out = convert.distinct(parts)
    image_spec = image_spec or _spec_of_arrays(parts, assumptions)
    labels, classes = _classes(parts, assumptions)
    conversion = _conversion(parts, arrays, labels, assumptions)
    train, test = convert.split(parts, conversion, classes)
    own = parts.get("valid")
    validation = len(own.labels) if own else len(train.labels) // HELD_OUT
    if not own:
        assumptions.append(
            f"validation: the last {validation} of the {len(train.labels)} training "
            "images"
        )
    spec = DatasetSpec(title=_title(called), form=image_spec, classes=classes)
    as_it_is = Path(source).is_dir() and convert.holds_idx(Path(source))
    if as_it_is and not left_out and conversion == Conversion():
        conversion = None  # type: ignore[assignment]
    found += [*notes, *left_out]
    _refuse_thin(train, test, validation, classes)
    found.insert(0, f"{whole} images of {image_spec.shape[0]} x {image_spec.shape[1]}")
    found.insert(1, f"{len(classes)} classes: {', '.join(classes)}")
    return InferredCard(
        source,
        spec,
        conversion,
        train,
        test,
        validation,
        own is not None,
        assumptions,
        found,
    )


def name_of(called: str) -> str:
    """Return a name for the dataset card, as params.yaml allows it."""
    word = re.sub(r"[^a-z0-9]+", "_", called.lower()).strip("_")
    return (word if word[:1].isalpha() else f"data_{word}").strip("_")[:40]


def write(found: InferredCard, name: str, folder: Path) -> Path:
    """Write the dataset card to `folder`, once the data is validated against it.

    Raises:
        BadInput: the data would not pass, or something can't be written as YAML.
    """
    text = render(found, name)
    with tempfile.TemporaryDirectory() as temporary:
        draft = Path(temporary, f"{name}.yaml")
        draft.write_text(text, encoding="utf-8")
        _hold(found, draft)
    path = folder / f"{name}.yaml"
    files.write_text(path, text)
    return path


def render(found: InferredCard, name: str) -> str:
    """Return the dataset card as YAML."""
    contents = convert.files(found.train, found.test)
    largest = max(map(len, contents.values()))
    limits, measured = _ranges(found)
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701  # YAML, whose values are quoted
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = _quoted
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        origin=params.printable(found.source),
        name=name,
        source=found.source,
        spec=found.spec,
        spec_note=_spec_note(found),
        sha256=convert.digests(contents),
        max_bytes=largest
        if largest > fetch.MAX_BYTES and not found.conversion
        else None,
        conversion=found.conversion,
        limits=limits,
        measured=measured,
        validation=found.validation,
        validation_note="" if found.own_validation else "; a guess",
    )


def _spec_of_image_folder(
    source: str, assumptions: list[str]
) -> tuple[ImageSpec | None, list[str]]:
    """Return what class-named images are to be brought to, None for other bundles."""
    path = Path(source)
    if not path.is_dir() or convert.holds_idx(path):
        return None, []
    by_split, others = image_folder.find(path)
    summary = image_folder.summarize(by_split)
    found = [f"{others} other files are passed over"] if others else []
    if len(by_split) > 1:
        assumptions.append(f"the folders {', '.join(by_split)} are parts of the data")
    assumptions.append("the folders of images are named after their class")
    return _spec_of_files(summary, assumptions), found


def _spec_of_files(summary: FolderSummary, assumptions: list[str]) -> ImageSpec:
    """Return the specification for image files."""
    first = next(iter(summary.shapes))
    if len(summary.shapes) == 1 and max(first) <= image_folder.SMALL:
        assumptions.append("the images are all of one size, and are taken as they are")
        return ImageSpec(shape=first, brightest=_brightest(summary.brightest), box=None)
    size = f"{SHAPE[0]} x {SHAPE[1]}"
    if summary.on_paper:
        assumptions.append(
            f"they look like ink on paper: the ink is scaled into a box of {BOX} x "
            f"{BOX} and centred in {size}, bright on dark, as MNIST was made"
        )
    else:
        assumptions.append(
            f"they are no ink on paper: each is scaled as a whole to {size}"
        )
    return ImageSpec(shape=SHAPE, brightest=255, box=BOX if summary.on_paper else None)


def _spec_of_arrays(parts: RawSplits, assumptions: list[str]) -> ImageSpec:
    """Return the specification of arrays of images, all of one size."""
    images = [part.images for part in parts.values() if len(part.images)]
    if not images:
        raise BadInput("All images are blank.")
    largest = max(int(each.max()) for each in images)
    brightest = _brightest(largest)
    if brightest != largest:
        assumptions.append(
            f"the brightest pixel is {largest}, of {brightest} that can be"
        )
    rows, columns = images[0].shape[1:]
    boxed = _boxed(images[0][:LOOKED_AT])
    if boxed:
        assumptions.append(
            f"they are made as MNIST's are: ink in a box of {BOX} x {BOX}, centred"
        )
    return ImageSpec(
        shape=(rows, columns), brightest=brightest, box=BOX if boxed else None
    )


def _boxed(images: Pixels) -> bool:
    """Return whether the ink of nearly every image fills the box, and is centred."""
    if images.shape[1:] != SHAPE:
        return False
    fitting = 0
    for image in images:
        top, left, bottom, right = segmentation.box(image > 0)
        off = np.array(segmentation.centre(image)) - np.array(SHAPE) / 2
        longest = max(bottom - top, right - left)
        fitting += BOX - 1 <= longest <= BOX and bool((abs(off) <= 1).all())
    return fitting >= image_folder.NEARLY * len(images)


def _brightest(value: int) -> int:
    return next(most for most in BRIGHTEST if most >= value)


def _classes(
    parts: RawSplits, assumptions: list[str]
) -> tuple[tuple[int | str, ...] | None, tuple[str, ...]]:
    """Return the label of each class, None if it is 0, 1 and so on, and its name."""
    values = np.unique(np.concatenate([part.labels for part in parts.values()]))
    if not 2 <= len(values) <= MAX_CLASSES:
        raise BadInput(
            f"The data has {len(values)} different labels; 2 to {MAX_CLASSES} classes "
            "can be told apart."
        )
    labels: tuple[int | str, ...] = tuple(values.tolist())
    names = tuple(_class_name(str(label)) for label in labels)
    if len(set(names)) < len(names) or "" in names:
        raise BadInput(
            f"The labels {', '.join(map(repr, labels))} can't all be names of classes; "
            "name them otherwise, by letters and digits."
        )
    if labels == tuple(range(len(labels))):
        assumptions.append("the classes are called as their labels")
        return None, names
    return labels, names


def _class_name(label: str) -> str:
    return re.sub(r"^\W+", "", re.sub(r"[^\w .+-]", " ", label))[:40].strip()


def _title(called: str) -> str:
    title = re.sub(r"^\W+", "", re.sub(r"[^\w .,:'()+-]", " ", called))[:100]
    return title or "data"


def _conversion(
    parts: RawSplits,
    arrays: Mapping[SplitName, tuple[str, str]] | None,
    labels: tuple[int | str, ...] | None,
    assumptions: list[str],
) -> Conversion:
    """Return how the four files are made."""
    train = parts["train"].labels
    seed, test = None, None
    if _ordered(train):
        seed = SEED
        assumptions.append(
            f"the training images come class by class: they are shuffled (seed {SEED})"
        )
    if "test" not in parts:
        test = len(train) // HELD_OUT
        assumptions.append(f"test: the last {test} of {len(train)} images")
    return Conversion(
        arrays=dict(arrays) if arrays else None, labels=labels, seed=seed, test=test
    )


def _ordered(labels: Any) -> bool:
    """Return whether neighbours are of one class far more often than by chance."""
    _, counts = np.unique(labels, return_counts=True)
    differ = 1 - float(((counts / counts.sum()) ** 2).sum())
    return float((labels[1:] != labels[:-1]).mean()) < ORDERED * differ


def _refuse_thin(
    train: Split, test: Split, validation: int, classes: tuple[str, ...]
) -> None:
    """Raise BadInput if a class has no images in one of the parts."""
    cut = len(train.labels) - validation
    parts = {
        "training": train.labels[:cut],
        "validation": train.labels[cut:],
        "test": test.labels,
    }
    for part, labels in parts.items():
        if missing := [
            name for index, name in enumerate(classes) if index not in labels
        ]:
            raise BadInput(
                f"There are too few images: for {part} none is left of class "
                f"{', '.join(missing)}."
            )


def _ranges(found: InferredCard) -> tuple[Validate, dict[str, str]]:
    """Return limits that the data keeps, with a margin, and what was measured."""
    images = summaries.of_images(found.train, found.test, found.spec.form.shape)
    classes = summaries.of_classes(images, len(found.spec.classes))
    share, share_seen = _range(classes["class_share"], 1)
    mean_pixel, mean_pixel_seen = _range(images["mean_ink"], 255)
    lit, lit_seen = _range(images["lit_share"], 1)
    dimmest, largest = (int(images["brightest"].agg(end)) for end in ("min", "max"))
    limits = Validate(
        counts=Counts(train=len(found.train.labels), test=len(found.test.labels)),
        class_share=share,
        mean_ink=mean_pixel,
        lit_share=lit,
        brightest=math.floor(dimmest * (1 - MARGIN)),
    )
    return limits, {
        "class_share": share_seen,
        "mean_ink": mean_pixel_seen,
        "lit_share": lit_seen,
        "brightest": f"{dimmest} to {largest}",
    }


def _range(values: pd.Series, most: int) -> tuple[tuple[float, float], str]:
    """Return limits around all of `values`, and the values' own, in words."""
    low, high = float(values.min()), float(values.max())
    digits = 4 if most == 1 else 2
    scale = 10**digits
    below = math.floor(low * (1 - MARGIN) * scale) / scale
    above = min(float(most), math.ceil(high * (1 + MARGIN) * scale) / scale)
    return (below, above), f"{low:.4g} to {high:.4g}"


def _spec_note(found: InferredCard) -> str:
    image_spec = found.spec.form
    if image_spec.box:
        return "its ink was scaled into the box and centred by its mass; a guess"
    if Path(found.source).is_dir() and image_spec.shape == SHAPE:
        return "an image of another size is scaled to it as a whole"
    return "an image is taken as it is"


def _hold(found: InferredCard, card: Path) -> None:
    """Let the steps read the draft of the card, and validate the data."""
    params.load("download", Download, card)
    params.load("normalize", Normalize, card)
    params.load("report", ReportedResults, card)
    spec = params.load("images", DatasetSpec, card)
    wanted = params.load("validate", Validate, card)
    result = validate(found.train, found.test, spec, wanted)
    if not result.passed:
        raise BadInput(complaint(result))


def _quoted(value: object) -> str:
    """Return a value as YAML reads it, text in quotes."""
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        raise BadInput(f"{text!a} can't be written into a dataset card; rename it.")
    return text
