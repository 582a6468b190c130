"""The table of predictions, row by row, as CSV or Parquet.

| column | |
|---|---|
| `path` | the file, as it was asked for |
| `image` | its index in the file, from 0: a page, or a row of an array |
| `prediction` | the most probable class; none if the image can't be used |
| `probability` | of it, as the model is calibrated |
| `runner_up` | the second most probable class |
| `set_aside` | whether a person should look at it |
| `reason` | why it was set aside; empty if it was not |
"""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from tasks.dataset.splits import Floats
from tasks.inference.image_stream import shown
from tasks.runtime.params import BadInput

Format = Literal["csv", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
COLUMNS = (
    *("path", "image", "prediction", "probability"),
    *("runner_up", "set_aside", "reason"),
)
DIGITS = 6  # of a probability
# Rows that Parquet holds together.
GROUP = 131_072


class Rows(NamedTuple):
    """Rows of the table; what repeats is a number that counts in a list.

    Attributes:
        paths: of files.
        file: in `paths`, (N,).
        image: see above, (N,).
        prediction: in the classes, (N,).
        probability: (N,).
        runner_up: in the classes, (N,).
        usable: whether there is a prediction, (N,).
        reasons: the first is empty: not set aside.
        reason: in `reasons`, (N,).
    """

    paths: list[str]
    file: npt.NDArray[np.int32]
    image: npt.NDArray[np.int64]
    prediction: npt.NDArray[np.intp]
    probability: Floats
    runner_up: npt.NDArray[np.intp]
    usable: npt.NDArray[np.bool_]
    reasons: list[str]
    reason: npt.NDArray[np.int32]


Write = Callable[[Rows], None]


@contextmanager
def writing(
    path: Path, file_format: Format, class_names: tuple[str, ...]
) -> Iterator[Write]:
    """Yield what writes rows to the file at `path`.

    Raises:
        BadInput: Parquet is asked for, and pyarrow is not installed.
    """
    with (
        _csv(path, class_names)
        if file_format == "csv"
        else _parquet(path, class_names) as write
    ):
        yield write


def require(file_format: Format) -> None:
    """Raise BadInput if what writes that kind is not installed."""
    if file_format == "parquet":
        _pyarrow()


@contextmanager
def _csv(path: Path, class_names: tuple[str, ...]) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        names = np.array([*class_names, ""], dtype=object)

        def write(rows: Rows) -> None:
            probability = rows.probability.astype(np.float64).round(DIGITS)
            none = ~rows.usable
            columns = (
                np.array([shown(each) for each in rows.paths], object)[rows.file],
                rows.image,
                names[np.where(none, -1, rows.prediction)],
                np.where(none, "", probability.astype(object)),
                names[np.where(none, -1, rows.runner_up)],
                np.where(rows.reason > 0, "true", "false"),
                np.array(rows.reasons, object)[rows.reason],
            )
            writer.writerows(zip(*(each.tolist() for each in columns), strict=True))

        yield write


@contextmanager
def _parquet(path: Path, class_names: tuple[str, ...]) -> Iterator[Write]:
    arrow, parquet = _pyarrow()
    word = arrow.dictionary(arrow.int32(), arrow.string())
    types = dict.fromkeys(COLUMNS, word) | {
        "image": arrow.int64(),
        "probability": arrow.float32(),
        "set_aside": arrow.bool_(),
    }
    schema = arrow.schema(list(types.items()))
    words = [name for name, file_format in types.items() if file_format is word]
    pending: list[Rows] = []
    waiting = 0

    def flush() -> None:
        columns = _columns(arrow, _joined(pending), class_names)
        table = arrow.Table.from_arrays(columns, schema=schema)
        writer.write_table(table)
        pending.clear()

    settings = {
        "use_dictionary": words,
        "column_encoding": {"image": "DELTA_BINARY_PACKED"},
        # Numbers of 32 bits hardly get smaller, and nobody looks for a range of them.
        "compression": "none",
        "write_statistics": False,
    }
    with parquet.ParquetWriter(path, schema, **settings) as writer:

        def write(rows: Rows) -> None:
            nonlocal waiting
            pending.append(rows)
            waiting += len(rows.file)
            if waiting >= GROUP:
                flush()
                waiting = 0

        yield write
        if pending:
            flush()


def _columns(arrow: Any, rows: Rows, class_names: tuple[str, ...]) -> list[Any]:
    """Return the rows as Arrow's arrays."""

    def words(codes: npt.NDArray[Any], names: list[str], none: Any = None) -> Any:
        codes = arrow.array(codes.astype(np.int32, copy=False), mask=none)
        return arrow.DictionaryArray.from_arrays(codes, names)

    names = list(class_names)
    none = None if rows.usable.all() else ~rows.usable
    return [
        words(rows.file, [shown(each) for each in rows.paths]),
        arrow.array(rows.image),
        words(rows.prediction, names, none),
        arrow.array(rows.probability.astype(np.float32, copy=False), mask=none),
        words(rows.runner_up, names, none),
        arrow.array(rows.reason > 0),
        words(rows.reason, rows.reasons),
    ]


def _joined(several: list[Rows]) -> Rows:
    """Return rows that follow one another as one."""
    paths: list[str] = []
    reasons: list[str] = []
    known: dict[str, int] = {}
    file, reason = [], []
    for rows in several:
        # The rows of one array come in many parts, under one path.
        if rows.paths != paths[-1:]:
            first, paths = len(paths), paths + rows.paths
        else:
            first = len(paths) - 1
        file.append(rows.file + np.int32(first))
        for each in rows.reasons:
            known.setdefault(each, len(known))
        codes = np.array([known[each] for each in rows.reasons], np.int32)
        reason.append(codes[rows.reason])
    reasons = list(known)
    join = np.concatenate
    return Rows(
        paths,
        join(file),
        join([rows.image for rows in several]),
        join([rows.prediction for rows in several]),
        join([rows.probability for rows in several]),
        join([rows.runner_up for rows in several]),
        join([rows.usable for rows in several]),
        reasons,
        join(reason),
    )


def _pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and its module for Parquet, which only some users need."""
    try:
        import pyarrow as pa  # noqa: PLC0415  # see above
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise BadInput(
            "Parquet needs pyarrow; install it with `pip install -c constraints.txt "
            "-e '.[parquet]'`, or ask for CSV."
        ) from None
    return pa, parquet
