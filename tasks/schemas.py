"""The data sheet of the raw data: three tables made of it, and what each must hold.

One table has a row per file, one a row per class, one a row per image. None has a column
per pixel: NumPy reduces the pixels first, 70,000 images in 0.4 s. The index of a table
says where a value stands, a column what it is, and a check is named as its column.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaError, SchemaErrors
from pydantic import AfterValidator, Field, PositiveInt
from pydantic_core import PydanticCustomError

from tasks.settings import Settings
from tasks.splits import Pixels, Split

LISTED = 20  # a breach lists this many failures at most; the others are only counted
NO_ROW = -1


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise PydanticCustomError("limits", "the smaller limit comes first")
    return limits


Byte = Annotated[int, Field(ge=0, le=255)]
Share = Annotated[float, Field(ge=0, le=1)]
Ink = Annotated[float, Field(ge=0, le=255)]


class Counts(Settings):
    """The number of images, and so of labels, in each split."""

    train: PositiveInt
    test: PositiveInt


class DataSheet(Settings):
    """What the raw data must be. Both limits of a range belong to it.

    Attributes:
        shape: rows and columns of an image.
        classes: labels are the whole numbers below this.
        counts: images in each split.
        class_share: range of the share of its split that one class has.
        mean_ink: range of an image's mean pixel, of 255.
        lit_share: range of the share of an image's pixels that are not zero.
        brightest: an image's brightest pixel is at least this.
    """

    shape: tuple[PositiveInt, PositiveInt]
    classes: Annotated[int, Field(ge=1, le=256)]
    counts: Counts
    class_share: Annotated[tuple[Share, Share], AfterValidator(_ascending)]
    mean_ink: Annotated[tuple[Ink, Ink], AfterValidator(_ascending)]
    lit_share: Annotated[tuple[Share, Share], AfterValidator(_ascending)]
    brightest: Byte


@dataclass(frozen=True)
class Breach:
    """A rule that does not hold.

    Attributes:
        check: the column of the values that break the rule.
        rule: what holds for every value, as a sentence.
        count: number of values that break it.
        examples: the first `LISTED` of them, each under `value` beside the names and
            numbers that say where it stands, such as `split` and `row`.
    """

    check: str
    rule: str
    count: int
    examples: list[dict[str, Any]]


def files_schema(sheet: DataSheet) -> pa.DataFrameSchema:
    """Return what `files_table` must hold."""
    counts = sheet.counts.model_dump()
    shapes = {"images": str(sheet.shape), "labels": "()"}
    return pa.DataFrameSchema(
        {
            "dtype": _rule(
                "pixels and labels are unsigned bytes", pa.Check.eq, "uint8"
            ),
            "count": _rule(
                f"train has {sheet.counts.train} entries, test {sheet.counts.test}",
                pa.Check,
                lambda count: count == _level(count, "split").map(counts),
            ),
            "shape": _rule(
                f"an image has the shape {sheet.shape}, a label ()",
                pa.Check,
                lambda shape: shape == _level(shape, "file").map(shapes),
            ),
        }
    )


def classes_schema(sheet: DataSheet) -> pa.DataFrameSchema:
    """Return what `classes_table` must hold."""
    return pa.DataFrameSchema(
        {"class_share": _range("a class's share of its split", sheet.class_share)}
    )


def images_schema(sheet: DataSheet) -> pa.DataFrameSchema:
    """Return what `images_table` must hold."""
    last, least = sheet.classes - 1, sheet.brightest
    return pa.DataFrameSchema(
        {
            "label": _rule(f"a label is 0 to {last}", pa.Check.le, last),
            "blank": _rule("no image is blank", pa.Check.eq, False),  # noqa: FBT003
            "mean_ink": _range("an image's mean pixel", sheet.mean_ink),
            "lit_share": _range("the share of pixels that are lit", sheet.lit_share),
            "brightest": _rule(
                f"an image's brightest pixel is {least} or more", pa.Check.ge, least
            ),
            "repeats": _rule("no image is twice in its split", pa.Check.eq, NO_ROW),
            "leaks": _rule("no test image is in the training set", pa.Check.eq, NO_ROW),
        }
    )


def files_table(train: Split, test: Split) -> pd.DataFrame:
    """Return dtype, count and shape of an entry, indexed by split and file."""
    rows = {
        (split, file): {
            "dtype": str(values.dtype),
            "count": values.shape[0] if values.ndim else 0,
            "shape": str(values.shape[1:]),
        }
        for split, arrays in (("train", train), ("test", test))
        for file, values in arrays._asdict().items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["split", "file"])


def images_table(train: Split, test: Split, sheet: DataSheet) -> pd.DataFrame:
    """Return one row per image, indexed by split and row within its file.

    Images and labels are paired as far as both go. A split has no rows if its arrays
    aren't bytes of the data sheet's shapes, of which `files_table` tells.

    Returns:
        label: uint8.
        blank: bool, all pixels are alike.
        mean_ink: float, the mean pixel, of 255.
        lit_share: float, the share of pixels that are not zero.
        brightest: uint8, the largest pixel.
        repeats: the row of the first image of this split with the same pixels, or -1.
        leaks: for a test image, the row of the first training image with the same
            pixels; or -1.
    """
    train, test = _paired(train, sheet), _paired(test, sheet)
    tables = {
        "train": _image_rows(train, {}),
        "test": _image_rows(test, _first_rows(train.images)),
    }
    return pd.concat(tables, names=["split", "row"])


def classes_table(images: pd.DataFrame, sheet: DataSheet) -> pd.DataFrame:
    """Return count and share of each class, indexed by split and class.

    Labels that are no class count in neither; a split without images has no rows.
    """
    labels = images["label"].groupby("split", sort=False)
    counts = labels.value_counts().unstack(fill_value=0)
    counts = counts.reindex(columns=range(sheet.classes), fill_value=0)
    shares = counts.div(labels.size(), axis="index")
    table = pd.DataFrame({"count": counts.stack(), "class_share": shares.stack()})
    return table.rename_axis(["split", "class"])


def breaches(schema: pa.DataFrameSchema, table: pd.DataFrame) -> list[Breach]:
    """Return every rule of `schema` that `table` breaks, in the schema's order."""
    try:
        # Whatever pandera's environment variables say, which could turn it off.
        with config_context(
            validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA
        ):
            schema.validate(table, lazy=True)
    except SchemaErrors as errors:
        return [_breach(error, table) for error in errors.schema_errors]
    return []


def _breach(error: SchemaError, table: pd.DataFrame) -> Breach:
    """Read from pandera's error which entries of `table` failed."""
    if error.check_output is None:
        raise error  # the schema doesn't fit the table: a fault of this module
    column, names = error.schema.name, table.index.names
    failed = np.flatnonzero(~error.check_output.to_numpy())
    examples = [
        dict(zip(names, where, strict=True)) | {"value": value}
        for where, value in table[column].iloc[failed[:LISTED]].to_dict().items()
    ]
    return Breach(column, error.check.error, len(failed), examples)


def _rule(sentence: str, check: Callable[..., pa.Check], *limits: object) -> pa.Column:
    """Return a column of which `check` holds; it is quoted as `sentence`."""
    return pa.Column(checks=check(*limits, error=sentence, n_failure_cases=LISTED))


def _range(what: str, limits: tuple[float, float]) -> pa.Column:
    """Return a column whose values lie between `limits`, both included."""
    low, high = limits
    return _rule(f"{what} is {low:g} to {high:g}", pa.Check.in_range, low, high)


def _level(column: pd.Series, name: str) -> pd.Index:
    """Return one level of a column's index, entry by entry."""
    return column.index.get_level_values(name)


def _paired(split: Split, sheet: DataSheet) -> Split:
    """Return the images that have a label; none if they can't be told apart."""
    images, labels = split
    kinds = [(values.dtype, values.shape[1:]) for values in split]
    if kinds != [(np.uint8, sheet.shape), (np.uint8, ())] or not labels.ndim:
        return Split(np.empty((0, *sheet.shape), np.uint8), np.empty(0, np.uint8))
    pairs = min(len(images), len(labels))
    return Split(images[:pairs], labels[:pairs])


def _image_rows(split: Split, training_rows: dict[bytes, int]) -> pd.DataFrame:
    """Return the rows of `images_table` for one split."""
    images = split.images
    pixels = images.reshape(len(images), math.prod(images.shape[1:]))
    brightest, first = pixels.max(axis=1), _rows_alike(images, _first_rows(images))
    return pd.DataFrame(
        {
            "label": split.labels,
            "blank": brightest == pixels.min(axis=1),
            "mean_ink": pixels.mean(axis=1),
            "lit_share": np.count_nonzero(pixels, axis=1) / pixels.shape[1],
            "brightest": brightest,
            "repeats": np.where(first < np.arange(len(images)), first, NO_ROW),
            "leaks": _rows_alike(images, training_rows),
        }
    )


def _first_rows(images: Pixels) -> dict[bytes, int]:
    """Return where each content stands first: a tenth of the time that np.unique takes."""
    rows: dict[bytes, int] = {}
    for row, image in enumerate(images):
        rows.setdefault(image.tobytes(), row)
    return rows


def _rows_alike(images: Pixels, rows: dict[bytes, int]) -> npt.NDArray[np.int64]:
    """Return the row, of `rows`, with the same content as each image, or `NO_ROW`."""
    alike = [rows.get(image.tobytes(), NO_ROW) for image in images]
    return np.array(alike, dtype=np.int64)
