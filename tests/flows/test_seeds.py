"""The flow of the seeds, on a small checkout."""

import json
import shutil
import signal
import subprocess
import sys

from checkouts import end, run
from conftest import wait_until
from prefect.client.orchestration import get_client

from flows import seeds

FLOW = ("python", "-m", "flows.seeds")


def test_the_flow_and_dvc_repro_take_each_others_trainings(
    experimenting, prefect_server
):
    folder = experimenting / "experiments" / "seeds"
    run(folder, prefect_server, "dvc", "repro", "retrain@autograd-0")
    said = run(experimenting, prefect_server, *FLOW)
    assert "Stages: 4 ran, 1 Cached." in said
    report = (experimenting / "reports" / "seeds.json").read_bytes()

    assert "Running stage" not in run(folder, prefect_server, "dvc", "repro")
    said = run(experimenting, prefect_server, *FLOW)
    assert "Stages: 0 ran, 5 Cached." in said
    assert (experimenting / "reports" / "seeds.json").read_bytes() == report

    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts()
    table = next(one for one in artifacts if one.key == "seeds")
    assert json.loads(table.data) == seeds.table(json.loads(report))

    said = run(experimenting, prefect_server, *FLOW, "--seeds", "1")
    assert "Stages: 1 ran, 2 Cached." in said
    assert (
        json.loads((experimenting / "reports" / "seeds.json").read_text())["models"][
            "autograd"
        ]["valid"]["sd"]
        is None
    )


def test_a_killed_flow_continues_where_it_stopped(experimenting, prefect_server):
    trials = experimenting / "experiments" / "seeds" / "trials"
    lock = experimenting / "experiments" / "seeds" / "dvc.lock"
    command = [sys.executable, *FLOW[1:], "--seeds", "4"]
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
    assert 2 <= recorded < 8

    said = run(experimenting, prefect_server, *FLOW, "--seeds", "4")
    assert f"Stages: {9 - recorded} ran, {recorded} Cached." in said
    assert len(list(trials.glob("*.json"))) == 8


def test_a_run_without_data_is_refused(experimenting, prefect_server):
    shutil.rmtree(experimenting / "data")
    ended = end(experimenting, prefect_server, *FLOW)
    assert ended.returncode == 1
    assert "data/normalized is missing; run the pipeline first" in ended.stdout


def test_a_number_of_seeds_below_one_is_refused(experimenting, prefect_server):
    ended = end(experimenting, prefect_server, *FLOW, "--seeds", "0")
    assert ended.returncode == 1
    assert "The number of seeds is 0; give one from 1 up." in ended.stdout


def test_accuracy_of_one_training_has_no_deviation():
    assert seeds.accuracy(0.91234, 0.00123) == "0.9123 ± 0.0012"
    assert seeds.accuracy(0.91234, None) == "0.9123"
