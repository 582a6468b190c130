"""Your own data: one command, one line in params.yaml, then the pipeline."""

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
    """A project without data, as the working directory."""
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
    """An .npz file: the digits 0, 1 and 2 of the small data set, labelled by words."""
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


def test_reports_have_the_class_names_of_the_data(project, words, monkeypatch, capsys):
    new_dataset.new_dataset(words, None, force=False)
    *_, wrote, line = capsys.readouterr().out.splitlines()
    assert "datasets/some_words.yaml" in wrote
    assert line == "dataset: some_words"
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("dataset: mnist", line))

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
    # The validation images come right before the test images.
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


def test_card_is_replaced_only_with_force(project, words):
    new_dataset.new_dataset(words, "mine", force=False)
    (project / "datasets" / "mine.yaml").write_text("edited by hand")

    with pytest.raises(BadInput, match="datasets/mine.yaml exists; .*--force"):
        new_dataset.new_dataset(words, "mine", force=False)
    assert (project / "datasets" / "mine.yaml").read_text() == "edited by hand"
    new_dataset.new_dataset(words, "mine", force=True)
    assert "images:" in (project / "datasets" / "mine.yaml").read_text()


@pytest.mark.parametrize("name", ["Mine", "../mine", "a b", "1"])
def test_invalid_name_is_refused(project, words, name):
    with pytest.raises(BadInput, match="name of a dataset card"):
        new_dataset.new_dataset(words, name, force=False)


def test_missing_data_is_refused(project):
    with pytest.raises(BadInput, match="gone is neither a folder nor an .npz file"):
        new_dataset.new_dataset("gone", None, force=False)
    assert not list((project / "datasets").iterdir())


def test_command_writes_into_the_project_from_any_folder(project, monkeypatch, capsys):
    (project / "own").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4), np.uint8)
    np.savez(project / "own" / "a.npz", X=images, y=np.arange(90) % 2)
    monkeypatch.setattr(new_dataset, "ROOT", project)
    monkeypatch.chdir(project / "own")

    run(monkeypatch, new_dataset, "./a.npz", "--name", "noise")

    card = yaml.safe_load((project / "datasets" / "noise.yaml").read_text())
    assert card["download"]["sources"] == ["own/a.npz"]
    assert capsys.readouterr().out.endswith("dataset: noise\n")


def test_data_outside_the_project_has_an_absolute_path(
    project, words, monkeypatch, tmp_path_factory
):
    monkeypatch.setattr(new_dataset, "ROOT", tmp_path_factory.mktemp("elsewhere"))

    run(monkeypatch, new_dataset, words, "--name", "noise")

    (card,) = new_dataset.ROOT.glob("datasets/*.yaml")
    sources = yaml.safe_load(card.read_text())["download"]["sources"]
    assert sources == [str(project / words)]


@pytest.mark.slow
def test_command_reports_missing_data_in_one_line():
    ended = subprocess.run(
        [sys.executable, "-m", "flows.new_dataset", "gone"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "gone is neither a folder nor an .npz file" in ended.stderr
