"""The flow of the seeds, on the small data set."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, wait_until
from prefect.client.orchestration import get_client
from small import lay_out

from flows import seeds
from tasks import repeats


@pytest.fixture
def small(tmp_path, parts, params, monkeypatch):
    """The project itself, its data made small, as the flow sees it."""
    for folder in ("flows", "tasks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    monkeypatch.setattr(seeds, "ROOT", tmp_path)
    return lay_out(tmp_path, parts, params)


def kept(small):
    return sorted((small / repeats.FOLDER).glob("*.json"))


def test_a_flow_that_was_killed_goes_on_where_it_was(small, prefect_server):
    command = [sys.executable, "-m", "flows.seeds", "--seeds", "8"]
    with subprocess.Popen(
        command,
        cwd=small,
        env=prefect_server,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as cut_off:
        wait_until(lambda: kept(small), seconds=60)
        os.kill(cut_off.pid, signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in kept(small)}
    assert 1 <= len(before) < 16
    assert not (small / "reports").exists()

    state = seeds.seeds(8, return_state=True)
    assert state.is_completed(), state.message
    names = [one.name for one in state.result(raise_on_failure=False)]
    assert len(names) == 17
    # One may have been written between the kill and the end of its process.
    assert len(before) <= names.count("Cached") <= len(before) + 1
    assert len(kept(small)) == 16
    assert {path: path.stat().st_mtime_ns for path in before} == before

    report = (small / "reports" / "seeds.json").read_bytes()
    again = seeds.seeds(8, return_state=True)
    assert [one.name for one in again.result(raise_on_failure=False)] == [
        "Cached"
    ] * 16 + ["Completed"]
    assert (small / "reports" / "seeds.json").read_bytes() == report

    with get_client(sync_client=True) as client:
        runs = client.read_task_runs()
        artifacts = client.read_artifacts()
    assert {"autograd, seed 0", "analytic, seed 7", "spread"} <= {
        run.name for run in runs
    }
    table = next(one for one in artifacts if one.key == "seeds")
    assert json.loads(table.data) == seeds.table(json.loads(report))


def test_a_model_too_good_to_be_true_fails_the_flow(small, prefect_server, monkeypatch):
    with monkeypatch.context() as patch:
        patch.chdir(small)
        for name, mark in repeats.marks().items():
            repeats.save(
                repeats.Repeat(
                    variant=name,
                    architecture="linear",
                    seed=0,
                    valid=0.9,
                    test=0.94,
                    predictions=bytes(300),
                ),
                mark,
            )
    state = seeds.seeds(1, return_state=True)
    assert state.is_failed()
    assert (
        "autograd with seed 0 has accuracy 0.9400"
        in state.result(raise_on_failure=False)[-1].message
    )
    assert not (small / "reports").exists()


def test_what_can_not_be_done_is_one_sentence(small, prefect_server):
    state = seeds.seeds(0, return_state=True)
    assert state.is_failed()
    assert state.message == "The number of seeds is 0; give one from 1 up."
    shutil.rmtree(small / "data")
    state = seeds.seeds(1, return_state=True)
    assert state.is_failed()
    assert "is missing; run `dvc repro` first." in state.message
