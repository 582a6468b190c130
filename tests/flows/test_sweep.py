"""The flow of a sweep, on a small checkout."""

import csv
import json

import pytest
from checkouts import git, run
from prefect.client.orchestration import get_client

from flows import sweep

FLOW = ("python", "-m", "flows.sweep")
RATES = ("--variants", "autograd", "--learning-rates", "0.003", "0.01", "1e30")
CONCLUSION = "To run it: dvc exp run -S train.variants.autograd.learning_rate=0.01"


@pytest.mark.slow
def test_sweep_ends_in_a_table_a_figure_and_a_command(experimenting, prefect_server):
    log = run(experimenting, prefect_server, *FLOW, *RATES, "--seeds", "2")
    assert "6 trainings, 3 settings; the best is autograd with" in log
    assert CONCLUSION in log
    reports = experimenting / "reports"
    with (reports / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["learning_rate"] for row in rows] == ["0.003", "0.01", "1e+30"]
    assert [row["diverged"] for row in rows] == ["0", "0", "2"]
    assert 0.5 < float(rows[0]["mean"]) < float(rows[1]["mean"]) < 1
    figure = (reports / "sweep.svg").read_text()
    assert ">learning rate<" in figure
    assert ">autograd (sgd)<" in figure
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts()
    table = json.loads(next(found for found in artifacts if found.key == "sweep").data)
    assert [row["n"] for row in table] == [2, 2, 0]
    assert table[2]["mean"] is None

    # A sweep changes nothing that git or the pipeline sees.
    assert git(experimenting, "status", "--short") == ""
    assert "up to date" in run(experimenting, prefect_server, "dvc", "status")

    folder = experimenting / "experiments" / "sweep"
    assert "Running stage" not in run(folder, prefect_server, "dvc", "repro")
    # With a third seed and one rate less, only the new trainings run.
    log = run(experimenting, prefect_server, *FLOW, *RATES[:-1], "--seeds", "3")
    assert log.count("Running python -m tasks.retrain") == 2
    assert "6 trainings, 2 settings" in log
    assert CONCLUSION in log


def test_unknown_variant_is_refused(prefect_server):
    state = sweep.sweep(variants=["none"], return_state=True)
    assert state.is_failed()
    assert state.message.startswith("`train.variants` in params.yaml has no 'none'")
