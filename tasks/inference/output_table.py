"""The table of predictions, one row per image, as CSV or Parquet.

| column | |
|---|---|
| `path` | the path of the file, as the user wrote it |
| `image` | the index in the file, from 0: of a page, or of an image in an array |
| `prediction` | the most probable class; empty if the image can't be used |
| `probability` | its calibrated probability |
| `runner_up` | the second most probable class |
| `set_aside` | whether a person should look at the image |
| `reason` | why it was set aside; empty if it was not |
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from tasks.inference.classifier import Predictions
from tasks.inference.image_stream import display_path
from tasks.runtime.params import BadInput

Format = Literal["csv", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
COLUMNS = (
    *("path", "image", "prediction", "probability"),
    *("runner_up", "set_aside", "reason"),
)
DIGITS = 6  # of a probability
# A row group of a Parquet file is written after this many rows, or batches of rows.
GROUP_ROWS, GROUP_BATCHES = 131_072, 4096


class Rows(NamedTuple):
    """The rows of consecutive images of one file."""

    path: str
    first: int  # the index of the first image in its file
    predictions: Predictions
    usable: npt.NDArray[np.bool_]
    reason: npt.NDArray[np.int32]  # an index into `reasons`
    reasons: list[str]  # the first is empty: not set aside


Write = Callable[[Rows], None]


def writing(
    path: Path, file_format: Format, class_names: tuple[str, ...]
) -> AbstractContextManager[Write]:
    """Return a context with a function that appends rows to the table at `path`."""
    write = _writing_csv if file_format == "csv" else _writing_parquet
    return write(path, class_names)


@contextmanager
def _writing_csv(path: Path, class_names: tuple[str, ...]) -> Iterator[Write]:
    names = np.array(class_names, object)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)

        def write(rows: Rows) -> None:
            label, probability, runner_up = rows.predictions
            rounded = probability.astype(np.float64).round(DIGITS)
            columns = (
                [display_path(rows.path)] * len(label),
                range(rows.first, rows.first + len(label)),
                np.where(rows.usable, names[label], ""),
                np.where(rows.usable, rounded.astype(object), ""),
                np.where(rows.usable, names[runner_up], ""),
                np.where(rows.reason > 0, "true", "false"),
                np.array(rows.reasons, object)[rows.reason],
            )
            writer.writerows(zip(*columns, strict=True))

        yield write


@contextmanager
def _writing_parquet(path: Path, class_names: tuple[str, ...]) -> Iterator[Write]:
    arrow, parquet = _pyarrow()
    string = arrow.dictionary(arrow.int32(), arrow.string())
    types = dict.fromkeys(COLUMNS, string) | {
        "image": arrow.int64(),
        "probability": arrow.float32(),
        "set_aside": arrow.bool_(),
    }
    schema = arrow.schema(list(types.items()))
    settings = {
        "use_dictionary": [name for name, type_ in types.items() if type_ is string],
        "column_encoding": {"image": "DELTA_BINARY_PACKED"},
        # Compression hardly shrinks float32, and statistics of it are not queried.
        "compression": "none",
        "write_statistics": False,
    }
    pending: list[Any] = []
    count = 0

    def flush() -> None:
        nonlocal count
        table = arrow.Table.from_batches(pending, schema)
        writer.write_table(table.unify_dictionaries().combine_chunks())
        pending.clear()
        count = 0

    def write(rows: Rows) -> None:
        nonlocal count
        columns = _arrow_columns(arrow, rows, class_names)
        pending.append(arrow.record_batch(columns, schema=schema))
        count += len(rows.reason)
        if len(pending) >= GROUP_BATCHES or count >= GROUP_ROWS:
            flush()

    with parquet.ParquetWriter(path, schema, **settings) as writer:
        yield write
        if pending:
            flush()


def _arrow_columns(arrow: Any, rows: Rows, class_names: tuple[str, ...]) -> list[Any]:
    """Return the rows as Arrow arrays; strings are dictionary-encoded."""
    label, probability, runner_up = rows.predictions
    missing = None if rows.usable.all() else ~rows.usable

    def strings(codes: npt.NDArray[Any], names: Sequence[str], mask: Any = None) -> Any:
        indices = arrow.array(codes.astype(np.int32, copy=False), mask=mask)
        return arrow.DictionaryArray.from_arrays(indices, list(names))

    return [
        strings(np.zeros(len(label), np.int32), [display_path(rows.path)]),
        arrow.array(np.arange(rows.first, rows.first + len(label))),
        strings(label, class_names, missing),
        arrow.array(probability, arrow.float32(), mask=missing),
        strings(runner_up, class_names, missing),
        arrow.array(rows.reason > 0),
        strings(rows.reason, rows.reasons),
    ]


def _pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and its Parquet module, an optional dependency."""
    try:
        import pyarrow as pa  # noqa: PLC0415  # optional
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise BadInput(
            "Parquet needs pyarrow; install it with `pip install -c constraints.txt "
            "-e '.[parquet]'`, or use CSV."
        ) from None
    return pa, parquet
