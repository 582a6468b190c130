import json
from copy import deepcopy

import pytest
from conftest import ROOT

from tasks.evaluation import metrics_file
from tasks.runtime.params import BadInput

REAL = json.loads((ROOT / "reports" / "metrics.json").read_text())


def test_the_committed_metrics_are_valid():
    assert metrics_file.read(ROOT / "reports" / "metrics.json") == REAL


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (["best"], "unknown"),
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
        (["by_hand", "analytic", "optimizer"], "unknown"),
        (["by_hand", "analytic", "largest_difference"], float("inf")),
        (["more"], 1),
    ],
)
def test_impossible_metrics_are_refused(tmp_path, key, value):
    *parents, last = key
    changed = inner = deepcopy(REAL)
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(changed))

    with pytest.raises(BadInput, match=f"{path} is damaged; run `dvc repro --force"):
        metrics_file.read(path)


@pytest.mark.parametrize("content", ["", "[", "[" * 99_999, "{}", "\0", "null"])
def test_files_without_metrics_are_refused(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_text(content)

    with pytest.raises(BadInput, match=f"{path} is damaged"):
        metrics_file.read(path)


def test_large_files_are_refused(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(REAL) + " " * 1_000_000)

    with pytest.raises(BadInput, match="1,000,000 bytes"):
        metrics_file.read(path)


def test_missing_metrics_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metrics\.json"):
        metrics_file.read(tmp_path / "metrics.json")
