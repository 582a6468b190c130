import re
import shutil
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from samples import ROOT, facts

from tasks import report as report_step
from tasks.baseline import Baseline, baseline
from tasks.dataset import splits
from tasks.dataset.splits import Split
from tasks.evaluate import evaluate
from tasks.modeling import model_file
from tasks.rawdata.dataset_card import ReportedResults
from tasks.report import report
from tasks.reporting import html, run, svg
from tasks.reporting.run import Run
from tasks.runtime import files
from tasks.runtime.params import BadInput, load
from tasks.train import train
from tasks.training.settings import Train

REPORTED = ReportedResults(loss={"the lesson": 2.4}, accuracy={}, suspicious=None)


@pytest.fixture(scope="session")
def shown(parts):
    """A run on the small data set."""
    by_name, about = parts
    settings = load("baseline", Baseline, ROOT / "params.yaml")
    networks = load("train", Train, ROOT / "params.yaml")
    few = Split(*(values[:200] for values in by_name["train"]))
    trained = {"baseline": baseline(few, about, settings)}
    loss, accuracy = {}, {}
    for name in ("scratch_sgd", "scratch_manual"):
        trained[name], training = train(few, by_name["valid"], about, networks, name)
        loss[name] = training.loss.numpy()
        accuracy[name] = training.accuracy[:, 1].numpy()
    found, tables = evaluate(trained, by_name, 0.05)
    del tables["classes"]
    return Run(
        by_name,
        about,
        REPORTED,
        trained,
        found,
        **tables,
        loss=loss,
        accuracy=accuracy,
    )


@pytest.fixture(scope="session")
def drawn(shown):
    """Its page and its figures."""
    return report(shown)


def test_every_figure_is_on_the_page_with_caption_and_alternative_text(drawn):
    page, drawings = drawn
    assert {"weights", "loss", "accuracy", "confusion", "mistakes"} <= drawings.keys()
    found = re.findall(
        r'<figure id="(\w+)" role="img" aria-label="([^"]+)">\n<div class="drawing">\n'
        r"(<svg.*?</svg>)\n*</div>\n<figcaption>([^<]+)</figcaption>",
        page,
        flags=re.DOTALL,
    )
    assert [name for name, *_ in found] == list(drawings)
    for name, alternative, drawing, caption in found:
        assert len(alternative) > 20, name
        assert caption.endswith("."), name
        ET.fromstring(drawing)


def test_page_needs_no_other_file(drawn):
    page, _ = drawn
    assert "<script" not in page
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(link.startswith(("#", "data:")) for link in links)
    addresses = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert addresses <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }, "XML namespaces are never fetched"


def test_ids_on_the_page_are_unique(drawn):
    page, _ = drawn
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_page_shows_the_metrics(shown, drawn):
    page, _ = drawn
    for scores in shown.metrics["models"].values():
        for figure in (
            f"{100 * scores['valid']['accuracy']:.2f} %",
            f"{scores['valid']['log_loss']:.4f}",
            f"{scores['valid']['ece']:.4f}",
        ):
            assert f"<td>{figure}</td>" in page
    assert f"{100 * shown.metrics['test']['accuracy']:.2f} %" in page


def test_figures_show_the_mistakes(shown, drawn):
    _, drawings = drawn
    best, table = shown.metrics["best"], shown.predictions
    wrong = int((table[best] != table["label"]).sum())
    titles = re.findall(r">(\d) as (\d), (\d\.\d\d)<", drawings["mistakes"])
    assert len(titles) == min(20, wrong)
    probabilities = [probability for *_, probability in titles]
    assert probabilities == sorted(probabilities, reverse=True)
    tested = shown.confusion.query("split == 'test'")["images"]
    counts = re.findall(r"<text[^>]*>(\d+)</text>", drawings["confusion"])
    tick_labels = 2 * sum(range(10))
    assert sum(map(int, counts)) - tick_labels == tested.sum() == 300
    assert len(counts) - 2 * 10 == np.count_nonzero(tested)


@pytest.fixture
def project(shown, params, tmp_path, monkeypatch):
    """A project's folder in which everything ran but the report."""
    monkeypatch.chdir(tmp_path)
    variants = {name: params["train"]["variants"][name] for name in shown.loss}
    params["train"]["variants"] = variants
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
    splits.save(tmp_path / "data" / "normalized", shown.splits, shown.facts)
    reports, models = tmp_path / "reports", tmp_path / "models"
    for name, model in shown.models.items():
        model_file.save(model, models / f"{name}.safetensors")
    for name, column in (("loss", "loss"), ("accuracy", "valid")):
        for network, values in getattr(shown, name).items():
            table = pd.DataFrame({column: values})
            table.to_csv(models / f"{network}.{name}.csv", index=False)
    files.write_json(reports / "metrics.json", shown.metrics)
    for name in ("confusion", "calibration", "predictions"):
        getattr(shown, name).to_csv(reports / f"{name}.csv", index=False)
    return tmp_path


def test_results_are_read_as_they_were_written(shown, project):
    found = run.read()

    assert found.facts == shown.facts
    assert found.metrics == shown.metrics
    pd.testing.assert_frame_equal(found.predictions, shown.predictions)
    for history in ("loss", "accuracy"):
        for network, values in getattr(shown, history).items():
            np.testing.assert_allclose(getattr(found, history)[network], values)


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        ("reports/predictions.csv", "\n0,", "\n9,", "other models or images"),
        ("reports/predictions.csv", "\n0,", "\n-1,", "other models or images"),
        ("reports/predictions.csv", "label", "lable", "predictions.csv is damaged"),
        ("reports/confusion.csv", "actual", "lable", "confusion.csv is damaged"),
        ("reports/metrics.json", "baseline", "other", "other models or images"),
        ("reports/metrics.json", "accuracy", "x", "metrics.json is damaged"),
        ("models/scratch_sgd.loss.csv", "loss", "x", "--force train@scratch_sgd"),
    ],
)
def test_results_of_other_models_or_images_are_refused(
    project, name, old, new, sentence
):
    path = project / name
    path.write_text(path.read_text().replace(old, new))

    with pytest.raises(BadInput, match=sentence):
        run.read()


def test_step_draws_what_there_is(shown, drawn, project, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["report"])
    reports = project / "reports"
    labels = shown.predictions["label"]
    no_mistakes = shown.predictions.assign(**dict.fromkeys(shown.models, labels))
    no_mistakes.to_csv(reports / "predictions.csv", index=False)
    no_updates_by_hand = {**shown.metrics, "by_hand": {}}
    files.write_json(reports / "metrics.json", no_updates_by_hand)
    any_order = shown.confusion.sample(frac=1, random_state=0)
    any_order.to_csv(reports / "confusion.csv", index=False)
    report_step.main()

    _, drawings = drawn
    names = drawings.keys() - {"mistakes", "difference"}
    page = (reports / "report.html").read_text()
    assert set(re.findall(r'<figure id="(\w+)"', page)) == names
    assert {path.stem for path in (reports / "figures").iterdir()} == names
    for name in ("confusion", "weights"):
        text = (reports / "figures" / f"{name}.svg").read_text()
        assert text == svg.standalone(drawings[name])
    assert f"{len(names)} figures" in capsys.readouterr().out


def test_names_from_settings_are_escaped():
    scores = dict.fromkeys(
        ("accuracy", "accuracy_low", "accuracy_high", "rmse", "mae", "log_loss", "ece"),
        0.5,
    )
    some = {"set_aside": 0.1, "error": None, "error_low": None, "error_high": None}
    kept = {"threshold": None, "valid": some, "test": some}
    one = Split(np.zeros((1, 2, 2), np.uint8), np.zeros(1, np.uint8))
    parameters = SimpleNamespace(description=SimpleNamespace(parameters={"<i>": "<u>"}))
    empty = pd.DataFrame()
    page = html.render(
        Run(
            splits=dict.fromkeys(splits.SPLITS, one),
            facts=facts((2, 2), 2),
            reported=REPORTED,
            models={"<b>": parameters},
            metrics={
                "max_error": 0.1,
                "models": {"<b>": {"valid": scores, "kept": kept}},
                "best": "<b>",
                "test": scores,
                "by_hand": {},
            },
            confusion=empty,
            calibration=empty,
            predictions=empty,
            loss={"<b>": np.zeros(1)},
            accuracy={},
        ),
        {"loss": "<svg></svg>", "confusion": "<svg></svg>"},
    )
    assert "&lt;b&gt;" in page
    for name in ("<b>", "<i>", "<u>"):
        assert name not in page
