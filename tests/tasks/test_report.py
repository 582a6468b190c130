import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, facts

from tasks import evaluate as evaluate_step
from tasks import report as report_step
from tasks.baseline import Baseline, baseline
from tasks.evaluate import Evaluate, evaluate
from tasks.rawdata.dataset_card import ReportedResults
from tasks.report import Results, report
from tasks.runtime import files
from tasks.runtime.params import BadInput, load
from tasks.train import train
from tasks.training.settings import Train

KNOWN = ReportedResults(loss={"the lesson": 2.4}, accuracy={}, suspicious=None)


@pytest.fixture(scope="module")
def made(parts):
    """Page and drawings of the small data set, and what they were made of."""
    splits, facts = parts
    settings = load("baseline", Baseline, ROOT / "params.yaml")
    networks = load("train", Train, ROOT / "params.yaml")
    trained = {"baseline": baseline(splits["train"], facts, settings)}
    loss, accuracy = {}, {}
    for name in ("scratch_sgd", "scratch_manual"):
        model, training = train(splits["train"], splits["valid"], facts, networks, name)
        trained[name] = model
        loss[name] = training.loss.numpy()
        accuracy[name] = training.accuracy[:, 1].numpy()
    result = evaluate(trained, splits, Evaluate(max_error=0.05))
    results = Results(
        metrics=result.metrics,
        confusion=result.confusion,
        calibration=result.calibration,
        predictions=result.predictions.reset_index(),
        loss=loss,
        accuracy=accuracy,
    )
    params = {n: model.description.parameters for n, model in trained.items()}
    return report(splits, facts, KNOWN, trained, results, params), results


def test_every_drawing_is_on_the_page_with_what_to_see_and_what_it_is(made):
    (page, drawings), _ = made
    assert list(drawings) == [
        *("first", "crop", "counts", "ink", "means", "loss", "accuracy"),
        *("difference", "weights", "predictions", "confusion", "mistakes"),
        *("reliability", "kept"),
    ]
    figures = re.findall(
        r'<figure id="(\w+)" role="img" aria-label="([^"]+)">\n<div class="drawing">\n'
        r"(<svg.*?</svg>)\n*</div>\n<figcaption>([^<]+)</figcaption>",
        page,
        flags=re.DOTALL,
    )
    assert {name for name, *_ in figures} == set(drawings)
    for name, alternative, svg, caption in figures:
        assert len(alternative) > 20, name
        assert caption.endswith("."), name
        ET.fromstring(svg)


def test_the_page_needs_nothing_from_elsewhere(made):
    (page, _), _ = made
    assert "<script" not in page
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(link.startswith(("#", "data:")) for link in links)
    addresses = set(re.findall(r"https?://[^\s\"'<]+", page))
    assert addresses <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }, "names, not places"


def test_ids_are_used_once(made):
    (page, _), _ = made
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_page_tells_the_metrics(made):
    (page, _), results = made
    for scores in results.metrics["models"].values():
        for figure in (
            f"{100 * scores['valid']['accuracy']:.2f} %",
            f"{scores['valid']['log_loss']:.4f}",
            f"{scores['valid']['ece']:.4f}",
        ):
            assert f"<td>{figure}</td>" in page
    assert f"right on\n{100 * results.metrics['test']['accuracy']:.2f} %" in page


def test_the_drawings_tell_the_predictions(made):
    (_, drawings), results = made
    best = results.metrics["best"]
    table = results.predictions
    wrong = int((table[best] != table["label"]).sum())
    said = re.findall(r">(\d) as (\d), (\d\.\d\d)<", drawings["mistakes"])
    assert len(said) == min(20, wrong)
    assert [sure for *_, sure in said] == sorted((s for *_, s in said), reverse=True)
    tested = results.confusion.query("split == 'test'")["images"]
    shown = re.findall(r"<text[^>]*>(\d+)</text>", drawings["confusion"])
    labels = 2 * 10
    assert sum(map(int, shown)) - 2 * sum(range(10)) == tested.sum() == 300
    assert len(shown) - labels == np.count_nonzero(tested)


def test_classes_stand_in_the_order_of_the_data_sheet():
    table = pd.DataFrame(
        [
            ("cnn", "test", "two", "two", 5),
            ("cnn", "test", "two", "ten", 1),
            ("cnn", "test", "ten", "two", 2),
            ("cnn", "test", "ten", "ten", 7),
            ("cnn", "valid", "two", "ten", 99),
        ],
        columns=["model", "split", "actual", "predicted", "images"],
    )
    counts = report_step._counts(table, "cnn", ("two", "ten"))
    assert counts.tolist() == [[5, 1], [2, 7]]


@pytest.fixture
def written(made, tmp_path, monkeypatch):
    """What evaluate and train write of the small data set, where they write it."""
    monkeypatch.chdir(tmp_path)
    _, results = made
    for name in ("confusion", "calibration", "predictions"):
        evaluate_step._write_table(getattr(results, name), f"{name}.csv")
    files.write_json(tmp_path / "reports" / "metrics.json", results.metrics)
    for kind, column in (("loss", "loss"), ("accuracy", "valid")):
        for network, values in getattr(results, kind).items():
            lines = [column, *map(str, values.tolist())]
            path = tmp_path / "models" / f"{network}.{kind}.csv"
            files.write_text(path, "\n".join(lines) + "\n")
    return list(results.metrics["models"]), list(results.loss)


def test_what_was_written_is_read(made, written, parts):
    _, results = made
    again = report_step._read(*written, parts[0]["valid"])

    assert again.metrics == results.metrics
    assert again.predictions["label"].tolist() == results.predictions["label"].tolist()
    assert {n: v.tolist() for n, v in again.accuracy.items()} == {
        n: v.tolist() for n, v in results.accuracy.items()
    }


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        ("reports/predictions.csv", "\n0,", "\n9,", "of other models or images"),
        ("reports/predictions.csv", "\n0,", "\n-1,", "of other models or images"),
        ("reports/predictions.csv", "label", "lable", "predictions.csv is damaged"),
        ("reports/confusion.csv", "actual", "lable", "confusion.csv is damaged"),
        ("reports/metrics.json", "baseline", "other", "of other models or images"),
        ("reports/metrics.json", "accuracy", "x", "metrics.json is damaged"),
        ("models/scratch_sgd.loss.csv", "loss", "x", "--force train@scratch_sgd"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    written, parts, tmp_path, name, old, new, sentence
):
    path = tmp_path / name
    path.write_text(path.read_text().replace(old, new))

    with pytest.raises(BadInput, match=sentence):
        report_step._read(*written, parts[0]["valid"])


def test_names_from_settings_are_escaped():
    from tasks.reporting import html  # noqa: PLC0415  # beside its one use

    scores = dict.fromkeys(
        ("accuracy", "accuracy_low", "accuracy_high", "rmse", "mae", "log_loss", "ece"),
        0.5,
    )
    some = {"set_aside": 0.1, "error": None, "error_low": None, "error_high": None}
    kept = {"threshold": None, "valid": some, "test": some}
    text = html.render(
        metrics={
            "max_error": 0.1,
            "models": {"<b>": {"valid": scores, "kept": kept}},
            "best": "<b>",
            "test": scores,
            "by_hand": {},
        },
        counts={"train": 1, "valid": 1, "test": 1},
        facts=facts((2, 2), 2),
        params={"<b>": {"<i>": "<u>"}},
        drawings={},
    )
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert "<i>" not in text
