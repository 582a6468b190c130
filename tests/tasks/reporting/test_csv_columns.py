import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reporting import csv_columns
from tasks.runtime.params import BadInput

TYPES = {"model": str, "images": int, "share": float}


def test_the_columns_asked_for_are_read_whatever_else_there_is(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("images,other,model,share\n1,x,a,0.5\n-2,,b,1e-3\n")

    table = csv_columns.read(path, TYPES, "evaluate")
    assert table.to_dict("list") == {
        "images": [1, -2],
        "model": ["a", "b"],
        "share": [0.5, 0.001],
    }


@pytest.mark.parametrize(
    "content",
    [
        *("", "\n", "model,images,share\n", "model,images\na,1\n"),
        "model,images,share\na,1.5,0.5\n",
        "model,images,share\na,x,0.5\n",
        "model,images,share\na,,0.5\n",
        "model,images,share\na,99999999999999999999,0.5\n",
        "model,images,share\na,1,\n",
        "model,images,share\na,1,nan\n",
        "model,images,share\na,1,-inf\n",
        "model,images,share\na,1,1e999\n",
        "model,images,share\n,1,0.5\n",
        'model,images,share\n"a,1,0.5\n',
        "model,model,share\na,1,0.5\n",
        "model,images,share\r\n\0,1\n",
        "\ud800",
    ],
)
def test_a_table_with_other_content_is_refused(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_text(content, errors="surrogatepass")

    with pytest.raises(
        BadInput, match=f"{path} is damaged; run `dvc repro --force evaluate`"
    ):
        csv_columns.read(path, TYPES, "evaluate")


def test_a_table_is_read_to_a_size(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_columns, "MAX_BYTES", 20)
    path = tmp_path / "table.csv"
    path.write_text("model,images,share\na,1,0.5\n")

    with pytest.raises(BadInput, match="has more than 20 bytes"):
        csv_columns.read(path, TYPES, "evaluate")


def test_a_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "table.csv"
    os.mkfifo(path)

    with pytest.raises(BadInput, match="is no file"):
        csv_columns.read(path, TYPES, "evaluate")


@given(st.binary(max_size=99) | st.binary(max_size=99).map(b"images\n".__add__))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("columns") / "table.csv"
    path.write_bytes(content)
    try:
        table = csv_columns.read(path, {"images": int}, "evaluate")
    except BadInput as refused:
        assert "is damaged" in str(refused)  # noqa: PT017  one of two right ends
    else:
        assert len(table) > 0
