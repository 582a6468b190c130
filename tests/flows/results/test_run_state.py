"""The name, the tags and the state of a run; test_pipeline.py has them in the UI."""

from datetime import UTC, datetime

import pytest
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed

from flows.results import run_state
from flows.results.run_state import errors_as_states, with_gate
from prefect_dvc import ProjectError, Stopped
from tasks.registry import provenance
from tasks.runtime.params import BadInput

METRICS = {"best": "baseline"}
LOCK = """\
stages:
  download: {outs: [{path: data/raw, md5: d0193be11ab497254ec.dir}]}
  evaluate: {outs: []}
"""


@pytest.mark.parametrize(
    ("who", "name"), [("nightly", "nightly 2026-11-23"), (None, "by hand 2026-11-23")]
)
def test_run_name_has_the_deployment_and_the_day(monkeypatch, who, name):
    start = datetime(2026, 11, 23, 12, tzinfo=UTC)
    monkeypatch.setattr(deployment, "name", who, raising=False)
    monkeypatch.setattr(flow_run, "scheduled_start_time", start, raising=False)
    assert run_state.initial_name() == name


def test_tags_are_data_model_and_code(tmp_path, monkeypatch):
    (tmp_path / "dvc.lock").write_text(LOCK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(provenance, "revision", lambda: "0123456789ab")
    assert run_state.tags(METRICS) == [
        "best:baseline",
        "data:d0193be",
        "git:0123456789ab",
    ]
    monkeypatch.setattr(provenance, "revision", lambda: None)
    assert run_state.tags(METRICS) == ["best:baseline", "data:d0193be"]


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (BadInput("Bad."), "Failed", "Bad."),
        (ProjectError("Refused."), "Failed", "Refused."),
        (Stopped("Ctrl-C"), "Stopped", "body was stopped with the flow."),
    ],
)
def test_expected_errors_become_failed_states_with_one_sentence(error, name, message):
    @errors_as_states
    def body():
        raise error

    state = body()
    assert state.is_failed()
    assert (state.name, state.message) == (name, message)


def test_other_errors_keep_their_traceback():
    @errors_as_states
    def body():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()


@pytest.mark.parametrize(
    ("gate", "name"),
    [
        (Completed(name="Promoted", message="New."), "Completed"),
        (Completed(name="Refused", message="Worse."), "Refused"),
        (Failed(message="Broken."), "Failed"),
    ],
)
def test_gate_decides_the_state_of_a_run(gate, name):
    state = with_gate(Completed(message="Every stage is up to date."), gate)
    assert state.name == name
    assert state.message == f"{gate.message} Every stage is up to date."
