"""Read the columns of a CSV file that a step of this project wrote."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.runtime import files
from tasks.runtime.params import BadInput

MAX_BYTES = 100_000_000  # the predictions of six models on 10,000 images take 1 MB


def read(path: Path, types: Mapping[str, type], made_by: str) -> pd.DataFrame:
    """Return the columns named in `types`; there is at least one row.

    Args:
        path: of the file.
        types: `int`, `float` or `str`, by column.
        made_by: the stage, for errors.

    Raises:
        BadInput: a column is missing or holds something else, or a number that is not
            finite, or there are no rows.
        FileNotFoundError: there is no file.
    """
    content = io.BytesIO(files.read_bytes(path, MAX_BYTES))
    try:
        table = pd.read_csv(content, usecols=list(types), dtype=dict(types))
    except (ValueError, OverflowError):
        table = pd.DataFrame()
    numbers = table.select_dtypes("number").to_numpy()
    if table.empty or table.isna().any(axis=None) or not np.isfinite(numbers).all():
        raise BadInput(f"{path} is damaged; run `dvc repro --force {made_by}`.")
    return table
