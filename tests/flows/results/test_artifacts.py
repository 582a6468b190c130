"""The artifacts of a run in the Prefect UI."""

import json

import pytest
from prefect import flow
from prefect.artifacts import Artifact
from samples import ROOT

from flows.results import artifacts

SCORES = {
    "accuracy": 0.92,
    "accuracy_low": 0.91,
    "accuracy_high": 0.93,
    "rmse": 1.2,
    "mae": 0.3,
    "log_loss": 0.29,
}
METRICS = {
    "models": {
        "one": {"train": SCORES, "valid": SCORES},
        "two": {"train": SCORES, "valid": {**SCORES, "accuracy": 0.9234}},
    },
    "best": "two",
    "test": {**SCORES, "accuracy": 0.9211},
}


def test_table_has_a_row_for_each_model_and_one_for_the_test_set():
    rows = artifacts.table(METRICS)
    assert [(row["model"], row["accuracy"]) for row in rows] == [
        ("one", "0.9200"),
        ("two", "0.9234"),
        ("two, on the test set", "0.9211"),
    ]
    assert rows[0] == {
        "model": "one",
        "accuracy": "0.9200",
        "95 % interval": "0.9100 to 0.9300",
        "log loss": "0.2900",
        "RMSE": "1.2000",
        "MAE": "0.3000",
    }


def test_headline_is_the_result_in_one_sentence():
    assert artifacts.headline(METRICS) == (
        "Best on validation: two; its accuracy on the test set is 0.9211 "
        "(95 % interval 0.9100 to 0.9300)."
    )


def test_page_embeds_the_table_and_the_figures(tmp_path):
    figure = tmp_path / "loss.svg"
    figure.write_bytes(b"SVG")
    text = artifacts.page(METRICS, [figure])
    assert "| two | 0.9234 | 0.9100 to 0.9300 | 0.2900 | 1.2000 | 0.3000 |" in text
    assert "![loss](data:image/svg+xml;base64,U1ZH)" in text


def test_nothing_is_shown_without_metrics(tmp_path):
    artifacts.publish(tmp_path)  # an artifact would need a Prefect server


def test_table_shows_the_change_since_the_last_run():
    last = [
        {"model": "one", "accuracy": "0.9210"},
        {"model": "two", "accuracy": "0.9234"},
    ]
    rows = artifacts.with_change(artifacts.table(METRICS), json.dumps(last))
    assert [row["change"] for row in rows] == ["-0.0010", "none", "new"]


@pytest.mark.parametrize(
    "data",
    [
        *(None, "", "[", "[" * 9999, "1", '{"model": 1}', "[[1]]"),
        '[{"model": "one"}]',
        '[{"model": ["one"], "accuracy": 1}]',
        '[{"model": "one", "accuracy": "high"}]',
        '[{"model": "one", "accuracy": null}]',
    ],
)
def test_table_of_another_project_is_ignored(data):
    rows = artifacts.with_change(artifacts.table(METRICS), data)
    assert [row["change"] for row in rows] == ["new", "new", "new"]


def test_second_run_shows_the_change_since_the_first(tmp_path, prefect_server):
    @flow
    def show(accuracy: float) -> list[str]:
        other = {**SCORES, "accuracy": accuracy}
        metrics = {**METRICS, "models": {"one": {"valid": other}}}
        monkey.setattr(artifacts.metrics_file, "read", lambda _: metrics)
        artifacts.publish(tmp_path)
        rows = json.loads(Artifact.get(artifacts.TABLE_KEY).data)
        return [row["change"] for row in rows]

    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "metrics.json").touch()
    with pytest.MonkeyPatch.context() as monkey:
        show(0.9200)
        assert show(0.9210) == ["+0.0010", "none"]


def test_damaged_metrics_are_not_shown_and_fail_nothing(
    tmp_path, caplog, prefect_server
):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "metrics.json").write_text('{"models": {"<b>": 1}}')

    @flow
    def show() -> None:
        artifacts.publish(tmp_path)

    show()
    assert "No metrics are shown: " in caplog.text
    assert "metrics.json" in caplog.text


def test_page_is_smaller_than_a_megabyte():
    metrics = json.loads((ROOT / "reports" / "metrics.json").read_text())
    figures = [ROOT / "reports" / "figures" / f"{n}.svg" for n in artifacts.FIGURES]
    assert all(figure.exists() for figure in figures)
    assert len(artifacts.page(metrics, figures)) < 1_000_000
