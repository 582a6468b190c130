import json
from copy import deepcopy

import pytest
from conftest import ROOT

from tasks.evaluation import metrics_file
from tasks.runtime.params import BadInput

REAL = json.loads((ROOT / "reports" / "metrics.json").read_text())


def test_the_real_metrics_are_read_as_they_are():
    assert metrics_file.read(ROOT / "reports" / "metrics.json") == REAL


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["best"], "nobody"),
        (["best"], 1),
        (["models"], {}),
        (["models"], []),
        (["models", "baseline", "valid"], None),
        (["models", "baseline", "valid", "accuracy"], 1.01),
        (["models", "baseline", "valid", "accuracy"], "0.9"),
        (["models", "baseline", "valid", "log_loss"], float("nan")),
        (["models", "baseline", "valid", "rmse"], -1),
        (["models", "<script>"], REAL["models"]["baseline"]),
        (["models", "a|b"], REAL["models"]["baseline"]),
        (["models", "../a"], REAL["models"]["baseline"]),
        (["test"], {}),
        (["by_hand", "analytic", "optimizer"], "nobody"),
        (["by_hand", "analytic", "largest_difference"], float("inf")),
        (["more"], 1),
    ],
)
def test_metrics_that_can_not_be_are_refused(tmp_path, place, value):
    *way, last = place
    changed = inner = deepcopy(REAL)
    for key in way:
        inner = inner[key]
    inner[last] = value
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(changed))

    with pytest.raises(BadInput, match=f"{path} is damaged; run `dvc repro --force"):
        metrics_file.read(path)


@pytest.mark.parametrize("content", ["", "[", "[" * 99_999, "{}", "\0", "null"])
def test_what_are_no_metrics_is_refused(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_text(content)

    with pytest.raises(BadInput, match=f"{path} is damaged"):
        metrics_file.read(path)


def test_metrics_are_read_to_a_size(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(REAL) + " " * 1_000_000)

    with pytest.raises(BadInput, match="has more than 1,000,000 bytes"):
        metrics_file.read(path)


def test_metrics_that_are_missing_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metrics\.json"):
        metrics_file.read(tmp_path / "metrics.json")
