"""Check the tables of `tasks.validation.summaries` against the dataset card.

Each check is named after the column that it checks. All checks are made, even if some
fail.
"""

from collections.abc import Callable
from typing import Annotated, Any

import pandas as pd
import pandera.pandas as pa
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaError, SchemaErrors
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from tasks.dataset.spec import DatasetSpec
from tasks.runtime.params import BadInput, Count, Settings
from tasks.validation.summaries import NO_MATCH


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise PydanticCustomError("limits", "the smaller limit comes first")
    return limits


Share = Annotated[float, Field(ge=0, le=1)]
MeanPixel = Annotated[float, Field(ge=0, le=255)]
# Not strict: YAML has lists but no tuples.
RANGE = Field(strict=False), AfterValidator(_ascending)


class Counts(Settings):
    """Images in each split; each has one label."""

    train: Count
    test: Count


class DataLimits(Settings):
    """Section `validate` of the dataset card. Ranges include both limits.

    Attributes:
        counts: images in each split.
        class_share: range of a class's share of its split.
        mean_pixel: range of an image's mean pixel, of 255.
        foreground_share: range of the share of an image's pixels that are above 0.
        brightest: lower limit of an image's brightest pixel.
    """

    counts: Counts
    class_share: Annotated[tuple[Share, Share], *RANGE]
    mean_pixel: Annotated[tuple[MeanPixel, MeanPixel], *RANGE]
    foreground_share: Annotated[tuple[Share, Share], *RANGE]
    brightest: Annotated[int, Field(ge=0, le=255)]


def of_files(limits: DataLimits, spec: DatasetSpec) -> pa.DataFrameSchema:
    """Return the schema of `summaries.of_files`."""
    train, test, shape = limits.counts.train, limits.counts.test, spec.form.shape
    counts, shapes = [train, train, test, test], [str(shape), "()"] * 2
    return pa.DataFrameSchema(
        {
            "dtype": _column("pixels and labels are uint8", lambda s: s == "uint8"),
            "count": _column(
                f"files of train have {train} entries, of test {test}",
                lambda s: s == counts,
            ),
            "shape": _column(
                f"an image has the shape {shape}, a label ()", lambda s: s == shapes
            ),
        }
    )


def of_classes(limits: DataLimits) -> pa.DataFrameSchema:
    """Return the schema of `summaries.of_classes`."""
    return pa.DataFrameSchema(
        {"class_share": _range("a class's share of its split", limits.class_share)}
    )


def of_images(limits: DataLimits, spec: DatasetSpec) -> pa.DataFrameSchema:
    """Return the schema of `summaries.of_images`; refuse limits that no image meets."""
    last, least, most = len(spec.classes) - 1, limits.brightest, spec.form.brightest
    if least > most:
        raise BadInput(
            f"In the dataset card, `validate.brightest` is {least}, but no pixel can "
            f"be above {most} (`images.form.brightest`); change one of them."
        )
    return pa.DataFrameSchema(
        {
            "label": _column(f"a label is 0 to {last}", lambda s: s <= last),
            "blank": _column("no image is blank", lambda s: ~s),
            "mean_pixel": _range("an image's mean pixel", limits.mean_pixel),
            "foreground_share": _range(
                "an image's share of pixels above 0", limits.foreground_share
            ),
            "brightest": _range("an image's brightest pixel", (least, most)),
            "repeats": _column(
                "no image is twice in its split", lambda s: s == NO_MATCH
            ),
            "leaks": _column(
                "no test image is in the training set", lambda s: s == NO_MATCH
            ),
        }
    )


def failures(
    schema: pa.DataFrameSchema, table: pd.DataFrame
) -> dict[str, list[dict[str, Any]]]:
    """Return the failure cases of every check that fails, in the schema's order.

    Each has the keys `check`, `rule` (a sentence), the names of the table's index, such
    as `split` and `row`, and `value`.
    """
    try:
        # Environment variables of pandera could turn validation off.
        with config_context(
            validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA
        ):
            schema.validate(table, lazy=True)
    except SchemaErrors as errors:
        return {
            error.schema.name: _cases(error, table) for error in errors.schema_errors
        }
    return {}


def _cases(error: SchemaError, table: pd.DataFrame) -> list[dict[str, Any]]:
    if error.check_output is None:
        raise error  # a bug in this module: the schema does not fit the table
    column, rule = error.schema.name, error.check.error
    cases = table.loc[~error.check_output, column].rename("value").reset_index()
    return [
        {"check": column, "rule": rule, **case} for case in cases.to_dict("records")
    ]


def _column(rule: str, check: Callable[[pd.Series], pd.Series]) -> pa.Column:
    """Return a column whose values all pass `check`; `rule` says so in words."""
    # Building pandera's own table of all failure cases would take seconds.
    return pa.Column(checks=pa.Check(check, error=rule, n_failure_cases=1))


def _range(name: str, limits: tuple[float, float]) -> pa.Column:
    """Return a column whose values are between `limits`, both included."""
    low, high = limits
    return _column(f"{name} is {low:g} to {high:g}", lambda s: s.between(low, high))
