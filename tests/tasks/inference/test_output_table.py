"""The table of predictions, as CSV and as Parquet."""

import sys

import numpy as np
import pandas as pd
import pytest

from tasks.inference import output_table
from tasks.inference.output_table import Rows
from tasks.runtime.params import BadInput

CLASSES = ("no", "yes")
CSV = """\
path,image,prediction,probability,runner_up,set_aside,reason
"a ""b"",c",0,yes,0.987654,no,false,
"a ""b"",c",1,no,0.5,yes,true,low
=2.png,0,,,,true,it is blank
""".replace("=2", "./=2")


def rows(paths=('a "b",c', "=2.png")) -> Rows:
    return Rows(
        list(paths),
        np.array([0, 0, 1], np.int32),
        np.array([0, 1, 0]),
        np.array([1, 0, 0]),
        np.array([0.9876543, 0.5, 0.7], np.float32),
        np.array([0, 1, 1]),
        np.array([True, True, False]),
        ["", "low", "it is blank"],
        np.array([0, 1, 2], np.int32),
    )


def test_csv_has_a_line_a_row(tmp_path):
    with output_table.writing(tmp_path / "a", "csv", CLASSES) as write:
        write(rows())
    assert (tmp_path / "a").read_text() == CSV


def test_parquet_says_the_same_as_csv(tmp_path, monkeypatch):
    monkeypatch.setattr(output_table, "GROUP", 7)
    for kind in output_table.FORMATS:
        with output_table.writing(tmp_path / kind, kind, CLASSES) as write:
            for _ in range(4):
                write(rows())
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


def test_a_path_that_goes_on_is_not_named_twice(tmp_path):
    one = rows(["x", "x2"])._replace(file=np.zeros(3, np.int32), paths=["x"])
    joined = output_table._joined([one, one, rows(["y", "z"])])
    assert joined.paths == ["x", "y", "z"]
    assert joined.file.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 2]


def test_without_pyarrow_parquet_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    output_table.require("csv")
    with pytest.raises(BadInput, match="Parquet needs pyarrow; install it with"):
        output_table.require("parquet")
