"""The dataset card of the raw data: what its three tables must hold.

The tables are those of `tasks.validation.summaries`.

A check is named after the column that it is of. All are made, whatever fails before,
and pandera's errors become `Breach`es of bounded length.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaError, SchemaErrors
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from tasks.dataset.spec import DatasetSpec
from tasks.runtime.params import BadInput, Count, Settings
from tasks.validation.summaries import NO_ROW

LISTED = 20  # a breach lists this many failures at most; the others are only counted


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise PydanticCustomError("limits", "the smaller limit comes first")
    return limits


Share = Annotated[float, Field(ge=0, le=1)]
MeanPixel = Annotated[float, Field(ge=0, le=255)]
# YAML has lists, no tuples.
RANGE = Field(strict=False), AfterValidator(_ascending)


class Counts(Settings):
    """The number of images, and so of labels, in each split."""

    train: Count
    test: Count


class DataLimits(Settings):
    """Section `validate` of the dataset card. Both limits of a range belong to it.

    Attributes:
        counts: images in each split.
        class_share: range of the share of its split that one class has.
        mean_ink: range of an image's mean pixel, of 255.
        lit_share: range of the share of an image's pixels that are not zero.
        brightest: an image's brightest pixel is at least this.
    """

    counts: Counts
    class_share: Annotated[tuple[Share, Share], *RANGE]
    mean_ink: Annotated[tuple[MeanPixel, MeanPixel], *RANGE]
    lit_share: Annotated[tuple[Share, Share], *RANGE]
    brightest: Annotated[int, Field(ge=0, le=255)]


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


def of_files(limits: DataLimits, spec: DatasetSpec) -> pa.DataFrameSchema:
    """Return what `summaries.of_files` must hold."""
    counts, shape = limits.counts, spec.form.shape
    shapes = {"images": str(shape), "labels": "()"}
    return pa.DataFrameSchema(
        {
            "dtype": _rule("pixels and labels are uint8", pa.Check.eq, "uint8"),
            "count": _rule(
                f"files of train have {counts.train} entries, of test {counts.test}",
                pa.Check,
                lambda count: count == _level(count, "split").map(dict(counts)),
            ),
            "shape": _rule(
                f"an image has the shape {shape}, a label ()",
                pa.Check,
                lambda shape: shape == _level(shape, "file").map(shapes),
            ),
        }
    )


def of_classes(limits: DataLimits) -> pa.DataFrameSchema:
    """Return what `summaries.of_classes` must hold."""
    return pa.DataFrameSchema(
        {"class_share": _range("a class's share of its split", limits.class_share)}
    )


def of_images(limits: DataLimits, spec: DatasetSpec) -> pa.DataFrameSchema:
    """Return what `summaries.of_images` must hold.

    Raises:
        BadInput: no image can.
    """
    last, least, most = len(spec.classes) - 1, limits.brightest, spec.form.brightest
    if least > most:
        raise BadInput(
            f"The dataset card wants a pixel of {least} or more in every image "
            f"(`validate.brightest`), but {most} is the most that one can have "
            "(`images.form.brightest`); change either."
        )
    return pa.DataFrameSchema(
        {
            "label": _rule(f"a label is 0 to {last}", pa.Check.le, last),
            "blank": _rule("no image is blank", pa.Check, lambda blank: ~blank),
            "mean_ink": _range("an image's mean pixel", limits.mean_ink),
            "lit_share": _range("an image's share of pixels above 0", limits.lit_share),
            "brightest": _rule(
                f"an image's brightest pixel is {least} to {most}",
                pa.Check.in_range,
                least,
                most,
            ),
            "repeats": _rule("no image is twice in its split", pa.Check.eq, NO_ROW),
            "leaks": _rule("no test image is in the training set", pa.Check.eq, NO_ROW),
        }
    )


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
    column, names = error.schema.name, [str(name) for name in table.index.names]
    failed = np.flatnonzero(~error.check_output.to_numpy())
    listed = table[column].iloc[failed[:LISTED]].to_dict()
    examples = [
        {**dict(zip(names, where, strict=True)), "value": value}
        for where, value in listed.items()
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
