"""From a folder to a report with the right names, by one command and one line."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT

from flows import new_dataset
from tasks import baseline, download, evaluate, normalize, report, train, validate
from tasks.runtime.params import BadInput

NAMES = np.array(["zero", "one", "two"])


@pytest.fixture
def project(tmp_path, params, monkeypatch):
    """A project without data, in whose folder the test is."""
    params["train"]["variants"] = {
        "scratch_sgd": params["train"]["variants"]["scratch_sgd"]
    }
    params["train"]["device"] = "cpu"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (tmp_path / "datasets").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def words(project, digits):
    """An .npz of digits called by words: 0, 1 and 2 of the small data set."""
    labels = digits["train-labels-idx1-ubyte"]
    few = labels < len(NAMES)
    np.savez_compressed(
        project / "Some Words.npz",
        images=digits["train-images-idx3-ubyte"][few],
        labels=NAMES[labels[few]],
    )
    return "Some Words.npz"


def run(monkeypatch, step, *arguments):
    monkeypatch.setattr(sys, "argv", [step.__name__, *arguments])
    step.main()


def test_all_reports_of_ones_own_data_have_its_names(
    project, words, monkeypatch, capsys
):
    new_dataset.new_dataset(words, None, force=False)
    said = capsys.readouterr().out.splitlines()
    sheet = "datasets/some_words.yaml"
    assert said[-2:] == [
        f"{sheet} is written; read it, and put this line into params.yaml:",
        "dataset: some_words",
    ]
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("dataset: mnist", said[-1]))

    for step in (download, validate, normalize, baseline):
        run(monkeypatch, step)
    run(monkeypatch, train, "scratch_sgd")
    for step in (evaluate, report):
        run(monkeypatch, step)

    names = {"zero", "one", "two"}
    confusion = pd.read_csv("reports/confusion.csv")
    assert set(confusion["actual"]) == set(confusion["predicted"]) == names
    assert set(pd.read_csv("reports/classes.csv")["label"]) == names
    predictions = pd.read_csv("reports/predictions.csv")
    # Those that the pipeline was given last, before the test images.
    archive = np.load(words)
    count, last = len(archive["labels"]), len(predictions)
    test = count // 6
    assert predictions["label"].tolist() == (
        archive["labels"][count - test - last : count - test].tolist()
    )
    assert (predictions["baseline"] == predictions["label"]).mean() > 0.9
    page = (project / "reports" / "report.html").read_text()
    for name in names:
        assert f">{name}</text>" in page, name
    assert "Some Words" in page


def test_a_sheet_is_replaced_only_by_force(project, words):
    new_dataset.new_dataset(words, "mine", force=False)
    (project / "datasets" / "mine.yaml").write_text("polished by hand")

    with pytest.raises(BadInput, match="datasets/mine.yaml is there already; .*--forc"):
        new_dataset.new_dataset(words, "mine", force=False)
    assert (project / "datasets" / "mine.yaml").read_text() == "polished by hand"
    new_dataset.new_dataset(words, "mine", force=True)
    assert "images:" in (project / "datasets" / "mine.yaml").read_text()


@pytest.mark.parametrize("name", ["Mine", "../mine", "a b", "1"])
def test_a_name_must_be_a_word(project, words, name):
    with pytest.raises(BadInput, match="can't be the name of a data sheet; give one"):
        new_dataset.new_dataset(words, name, force=False)


def test_the_command_writes_into_the_project_from_wherever_it_is_called(tmp_path):
    for name in ("flows", "tasks"):
        shutil.copytree(ROOT / name, tmp_path / "project" / name)
    (tmp_path / "project" / "own").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4), np.uint8)
    np.savez(tmp_path / "project/own/a.npz", X=images, y=np.arange(90) % 2)

    def end(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "flows.new_dataset", *arguments],
            cwd=tmp_path / "project" / "own",
            env={"PYTHONPATH": str(tmp_path / "project")},
            check=False,
            capture_output=True,
            text=True,
        )

    done = end("./a.npz", "--name", "noise")
    assert (done.returncode, done.stderr) == (0, "")
    sheet = yaml.safe_load((tmp_path / "project/datasets/noise.yaml").read_text())
    assert sheet["download"]["sources"] == ["own/a.npz"]
    gone = end("gone")
    assert gone.returncode == 1
    assert gone.stderr.endswith(
        "own/gone is neither a folder nor an .npz file, nor sklearn:digits.\n"
    )
