import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reporting import run
from tasks.runtime.params import BadInput

TYPES = {"model": str, "images": int, "share": float}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.csv"


def test_only_the_requested_columns_are_read(path):
    path.write_text("images,other,model,share\n1,x,a,0.5\n-2,,b,1e-3\n")

    assert run.read_csv(path, TYPES, "evaluate").to_dict("list") == {
        "images": [1, -2],
        "model": ["a", "b"],
        "share": [0.5, 0.001],
    }


@pytest.mark.parametrize("name", ["None", "NA", "nan", "null", "07"])
def test_any_class_name_is_text(path, name):
    path.write_text(f"model,images,share\n{name},1,0.5\n")
    assert run.read_csv(path, TYPES, "evaluate")["model"].tolist() == [name]


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
def test_damaged_tables_are_refused(path, content):
    path.write_text(content, errors="surrogatepass")

    with pytest.raises(BadInput, match=f"{path} is damaged.*--force evaluate"):
        run.read_csv(path, TYPES, "evaluate")


def test_large_files_are_refused(path, monkeypatch):
    monkeypatch.setattr(run, "MAX_BYTES", 20)
    path.write_text("model,images,share\na,1,0.5\n")

    with pytest.raises(BadInput, match="20 bytes"):
        run.read_csv(path, TYPES, "evaluate")


def test_a_pipe_is_refused_without_waiting_for_it(path):
    os.mkfifo(path)

    with pytest.raises(BadInput, match=str(path)):
        run.read_csv(path, TYPES, "evaluate")


@given(st.binary(max_size=99) | st.binary(max_size=99).map(b"images\n".__add__))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("columns") / "table.csv"
    path.write_bytes(content)
    try:
        table = run.read_csv(path, {"images": int}, "evaluate")
    except BadInput as refused:
        assert "is damaged" in str(refused)  # noqa: PT017  one of two right outcomes
    else:
        assert len(table) > 0
