"""The table of predictions, as CSV and as Parquet."""

import sys

import numpy as np
import pandas as pd
import pytest
from pyarrow.parquet import ParquetFile

from tasks.inference import output_table
from tasks.inference.classifier import Predictions
from tasks.inference.output_table import Rows
from tasks.runtime.params import BadInput

CLASSES = ("no", "yes")
CSV = """\
path,image,prediction,probability,runner_up,set_aside,reason
"a ""b"",c",0,yes,0.987654,no,false,
"a ""b"",c",1,no,0.5,yes,true,low
=2.png,0,,,,true,it is blank
""".replace("=2", "./=2")


READ = Rows(
    path='a "b",c',
    first=0,
    predictions=Predictions(
        np.array([1, 0]), np.array([0.9876543, 0.5], np.float32), np.array([0, 1])
    ),
    usable=np.array([True, True]),
    reason=np.array([0, 1], np.int32),
    reasons=["", "low"],
)
BLANK = Rows(
    path="=2.png",
    first=0,
    predictions=Predictions(np.array([0]), np.array([0.7], np.float32), np.array([1])),
    usable=np.array([False]),
    reason=np.array([2], np.int32),
    reasons=["", "low", "it is blank"],
)


def test_csv_has_one_line_per_image(tmp_path):
    with output_table.writing(tmp_path / "a", "csv", CLASSES) as write:
        write(READ)
        write(BLANK)
    assert (tmp_path / "a").read_text() == CSV


@pytest.mark.parametrize("limit", ["GROUP_ROWS", "GROUP_BATCHES"])
def test_parquet_has_the_same_content_as_csv(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(output_table, limit, 5)
    for name in output_table.FORMATS:
        with output_table.writing(tmp_path / name, name, CLASSES) as write:
            for _ in range(4):
                write(READ)
                write(BLANK)
    assert ParquetFile(tmp_path / "parquet").num_row_groups > 1
    parquet = pd.read_parquet(tmp_path / "parquet")
    table = pd.read_csv(tmp_path / "csv")
    assert len(parquet) == 12
    for name in output_table.COLUMNS:
        one, other = parquet[name].astype(object), table[name].astype(object)
        if name == "probability":
            assert one.dropna().tolist() == pytest.approx(other.dropna().tolist())
        else:
            fill = "" if name == "reason" else None
            other = other.where(other.notna(), fill)
            assert one.where(one.notna(), fill).tolist() == other.tolist()


def test_parquet_without_pyarrow_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with (
        pytest.raises(BadInput, match="pyarrow"),
        output_table.writing(tmp_path / "a", "parquet", CLASSES),
    ):
        pass
