"""The sweep: the table and the winner, and the flow, here and on a Dask cluster."""

import csv
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from checkouts import end, git
from conftest import ROOT, wait_until
from small import lay_out

from tasks import repeats
from tasks.grids import Grid, Own, Point, Train
from tasks.repeats import Repeat
from tasks.runtime.params import BadInput
from tasks.sweep import Setting, best, sweep, to_run

GRID = ["--variants", "autograd", "--learning-rates", "0.003", "0.01", "1e30"]


def repeat(valid: float, *, diverged: bool = False) -> Repeat:
    return Repeat(
        variant="sgd",
        architecture="linear",
        seed=0,
        valid=valid,
        test=0,
        predictions=b"",
        diverged=diverged,
    )


RESULTS = {
    Point("sgd", 0.1, 64, 0): repeat(0.9),
    Point("sgd", 0.1, 64, 1): repeat(0.92),
    Point("sgd", 0.3, 64, 0): repeat(0.95),
    Point("sgd", 0.3, 64, 1): repeat(0, diverged=True),
    Point("adam", 0.1, 32, 0): repeat(0.905),
}


def test_a_row_is_the_mean_over_the_seeds():
    rows = sweep(RESULTS).to_dict("records")
    assert [tuple(row.values())[:5] for row in rows] == [
        ("sgd", 0.1, 64, 2, 0),
        ("sgd", 0.3, 64, 1, 1),
        ("adam", 0.1, 32, 1, 0),
    ]
    assert [row["mean"] for row in rows] == pytest.approx([0.91, 0.95, 0.905])
    assert rows[0]["sd"] == pytest.approx(np.std([0.9, 0.92], ddof=1))
    assert np.isnan(rows[1]["sd"])


def test_the_best_is_one_that_never_diverged():
    assert best(sweep(RESULTS)) == (Setting("sgd", 0.1, 64), pytest.approx(0.91))


def test_where_all_diverged_there_is_no_best():
    all_gone = {point: repeat(0, diverged=True) for point in RESULTS}
    with pytest.raises(BadInput, match="All settings diverged; sweep over smaller"):
        best(sweep(all_gone))


@pytest.mark.parametrize(
    ("winner", "changes"),
    [
        (Setting("sgd", 0.1, 64), []),
        (Setting("sgd", 0.3, 64), ["-S train.variants.sgd.learning_rate=0.3"]),
        (Setting("sgd", 0.1, 32), ["-S +train.variants.sgd.batch_size=32"]),
        (
            Setting("adam", 1e-05, 64),
            [
                "-S train.variants.adam.learning_rate=1e-05",
                "-S train.variants.adam.batch_size=64",
            ],
        ),
    ],
)
def test_the_winner_is_a_line_to_run(winner, changes):
    variants = {
        "sgd": Own(update="sgd", learning_rate=0.1),
        "adam": Own(update="adam", learning_rate=0.1, batch_size=32),
    }
    line = to_run(winner, Train(batch_size=64, variants=variants))
    assert line == " ".join(["dvc exp run", *changes])


def test_the_same_settings_have_the_same_mark_as_in_params_yaml(
    tmp_path, parts, params, monkeypatch
):
    monkeypatch.chdir(lay_out(tmp_path, parts, params))
    same = Point("autograd", 0.003, 64, 0)
    other, larger = same._replace(learning_rate=0.01), same._replace(batch_size=8)
    marks = repeats.marks_of([same, other, larger])
    assert marks[same] == repeats.marks()["autograd"]
    assert len(set(marks.values())) == 3
    assert marks[other] == repeats.marks(other.changes)["autograd"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, parts):
    """A checkout whose data is there, with two small variants."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    root = lay_out(tmp_path_factory.mktemp("sweep"), parts, params)
    for name in ("flows", "tasks", "pyproject.toml"):
        (root / name).symlink_to(ROOT / name)
    git(root, "init", "-q")
    return root


def run(root: Path, env: dict[str, str], *words: str) -> subprocess.CompletedProcess:
    return end(root, env, "python", str(root / "sweep.py"), *words)


@pytest.fixture
def here(checkout, monkeypatch):
    """The flow of this process, at work in the checkout; what was kept is gone."""
    from flows import sweep as flow  # noqa: PLC0415  # it reads settings

    for path in (checkout / repeats.FOLDER).glob("*"):
        path.unlink()
    monkeypatch.setattr(flow, "ROOT", checkout)
    monkeypatch.chdir(checkout)
    return flow


def table(root: Path) -> list[dict[str, str]]:
    with (root / "reports" / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


ASKED = {"variants": ["autograd"], "learning_rates": [0.003, 0.01, 1e30], "seeds": 2}


@pytest.mark.usefixtures("prefect_server")
def test_a_sweep_ends_in_a_table_a_figure_and_a_line(here, checkout):
    state = here.sweep(**ASKED, return_state=True)
    assert state.is_completed()
    assert state.message.endswith(
        "To run it: dvc exp run -S train.variants.autograd.learning_rate=0.01"
    )
    rows = table(checkout)
    assert [row["diverged"] for row in rows] == ["0", "0", "2"]
    assert 0.5 < float(rows[0]["mean"]) < float(rows[1]["mean"]) < 1
    drawn = (checkout / "reports" / "sweep.svg").read_text()
    assert ">learning rate<" in drawn
    assert ">autograd (sgd)<" in drawn

    before = {p: p.stat().st_mtime_ns for p in (checkout / repeats.FOLDER).iterdir()}
    assert len(before) == 6
    assert here.sweep(**ASKED, return_state=True).is_completed()
    assert {p: p.stat().st_mtime_ns for p in before} == before
    point, mark = next(iter(repeats.marks_of(Grid.of(ASKED).points()).items()))
    assert here._train(checkout, None, "again", tuple(point), mark).name == "Cached"


@pytest.mark.usefixtures("prefect_server")
def test_on_two_workers_of_dask_it_finds_the_same(here, checkout):
    assert here.sweep(**ASKED, return_state=True).is_completed()
    alone = (checkout / "reports" / "sweep.csv").read_bytes()
    for path in (checkout / repeats.FOLDER).iterdir():
        path.unlink()
    (checkout / "reports" / "sweep.csv").unlink()
    with warnings.catch_warnings():
        # Of distributed and its loop, when a cluster is closed.
        warnings.simplefilter("ignore")
        state = here.on_dask(2)(**ASKED, elsewhere=True, return_state=True)
    assert state.is_completed(), state.message
    assert (checkout / "reports" / "sweep.csv").read_bytes() == alone


@pytest.mark.usefixtures("prefect_server")
def test_what_can_not_be_swept_is_one_sentence(here):
    state = here.sweep(variants=["none"], return_state=True)
    assert state.is_failed()
    assert state.message.startswith("`train.variants` in params.yaml has no 'none'")


def test_a_sweep_that_was_killed_goes_on(checkout, prefect_server):
    for path in (checkout / repeats.FOLDER).glob("*"):
        path.unlink()
    program = (
        "import sys; from pathlib import Path; from flows import command, sweep; "
        f"sweep.ROOT = Path({str(checkout)!r}); "
        "command.run(sweep.sweep, variants=['autograd'], seeds=12, "
        "learning_rates=[0.003])"
    )
    words = [sys.executable, "-c", program]
    running = subprocess.Popen(
        words, cwd=checkout, env=prefect_server, stdout=subprocess.DEVNULL
    )
    folder = checkout / repeats.FOLDER
    wait_until(lambda: len(list(folder.glob("*.json"))) >= 2, seconds=60)
    running.send_signal(signal.SIGKILL)
    running.wait()
    time.sleep(0.5)
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert 2 <= len(kept) < 12
    ended = subprocess.run(
        words,
        cwd=checkout,
        env=prefect_server,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert len(list(folder.glob("*.json"))) == 12
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert table(checkout)[0]["n"] == "12"


def test_without_the_extra_dask_it_says_what_to_install(monkeypatch):
    from flows import sweep as flow  # noqa: PLC0415  # it reads settings

    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)
    with pytest.raises(BadInput, match="`--dask` needs the extra `dask`: `pip install"):
        flow.on_dask(2)
