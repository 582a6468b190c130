"""The flow of the seeds, on a small checkout."""

import json
import signal
import subprocess
import sys

import pytest
from checkouts import run
from prefect.client.orchestration import get_client
from servers import wait_until

from flows import seeds
from flows.results import experiments
from tasks.runtime.params import BadInput

FLOW = ("python", "-m", "flows.seeds")


@pytest.mark.slow
def test_flow_and_dvc_repro_reuse_each_others_trainings(experimenting, prefect_server):
    folder = experimenting / "experiments" / "seeds"
    run(folder, prefect_server, "dvc", "repro", "retrain@autograd-0")
    log = run(experimenting, prefect_server, *FLOW)
    assert "Stages: 4 ran, 1 Cached." in log
    report = (experimenting / "reports" / "seeds.json").read_bytes()

    assert "Running stage" not in run(folder, prefect_server, "dvc", "repro")
    log = run(experimenting, prefect_server, *FLOW)
    assert "Stages: 0 ran, 5 Cached." in log
    assert (experimenting / "reports" / "seeds.json").read_bytes() == report

    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts()
    table = next(found for found in artifacts if found.key == "seeds")
    assert json.loads(table.data) == seeds.table(json.loads(report))

    log = run(experimenting, prefect_server, *FLOW, "--seeds", "1")
    assert "Stages: 1 ran, 2 Cached." in log
    assert (
        json.loads((experimenting / "reports" / "seeds.json").read_text())["models"][
            "autograd"
        ]["valid"]["sd"]
        is None
    )


@pytest.mark.slow
def test_killed_flow_continues_where_it_stopped(experimenting, prefect_server):
    trials = experimenting / "experiments" / "seeds" / "trials"
    lock = experimenting / "experiments" / "seeds" / "dvc.lock"
    command = [sys.executable, *FLOW[1:], "--seeds", "3"]
    with subprocess.Popen(
        command,
        cwd=experimenting,
        env=prefect_server,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        wait_until(
            lambda: lock.exists() and lock.read_text().count("retrain@") >= 2,
            seconds=120,
        )
        running.send_signal(signal.SIGKILL)
    recorded = lock.read_text().count("retrain@")
    assert 2 <= recorded < 6

    log = run(experimenting, prefect_server, *FLOW, "--seeds", "3")
    assert f"Stages: {7 - recorded} ran, {recorded} Cached." in log
    assert len(list(trials.glob("*.json"))) == 6


def test_experiment_without_data_is_refused(tmp_path):
    with pytest.raises(BadInput, match="data/normalized is missing; run the pipeline"):
        experiments.run(tmp_path)


def test_experiment_with_an_invalid_variant_name_is_refused(tmp_path, monkeypatch):
    (tmp_path / "data" / "normalized").mkdir(parents=True)
    text = (experiments.ROOT / "params.yaml").read_text()
    changed = text.replace("scratch_sgd:", '"x; touch ran":')
    assert changed != text
    (tmp_path / "params.yaml").write_text(changed)
    monkeypatch.setattr(experiments, "ROOT", tmp_path)
    with pytest.raises(BadInput, match=r"train.variants.x; touch ran"):
        experiments.run(tmp_path)


def test_number_of_seeds_below_one_is_refused(prefect_server):
    state = seeds.seeds(0, return_state=True)
    assert state.is_failed()
    assert state.message == "The number of seeds is 0; give at least 1."


def test_accuracy_of_one_training_has_no_deviation():
    assert seeds.accuracy(0.91234, 0.00123) == "0.9123 ± 0.0012"
    assert seeds.accuracy(0.91234, None) == "0.9123"
