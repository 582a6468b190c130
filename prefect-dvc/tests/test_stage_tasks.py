"""Stages as Prefect tasks: the plan is held to the graph, and the UI tells the run."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from anyflow import anyflow
from conftest import alive, wait_until
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_dvc.dvc_repo import LedgerError, Plan
from prefect_dvc.processes import Processes, environment
from prefect_dvc.progress import Listener
from prefect_dvc.stage_tasks import Options, _options, opened

# DVC asks pygtrie so for the outputs of a stage.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")


def run(project):
    """Run the flow; return its state and its run's number."""
    state = anyflow(project.root, [], return_state=True)
    return state, state.state_details.flow_run_id


def logged(flow_run_id):
    """What the UI shows as the log of a flow run, in order."""
    APILogHandler().flush()
    with get_client(sync_client=True) as client:
        chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
        return [log.message for log in client.read_logs(chosen)]


def artifacts(flow_run_id):
    """A flow run's artifacts in the UI: key, type, description, data."""
    with get_client(sync_client=True) as client:
        chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        return [
            (found.key, found.type, found.description, found.data)
            for found in client.read_artifacts(artifact_filter=chosen)
        ]


def task_runs(flow_run_id):
    """What the UI shows as the tasks of a flow run: name and tags, sorted."""
    with get_client(sync_client=True) as client:
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        found = client.read_task_runs(flow_run_filter=chosen)
        return sorted((run.name, *run.tags) for run in found)


def test_options_that_nobody_gave_are_these():
    assert _options("s", Plan(frozenset(), "", {"other": 1})) == Options(
        retries=0, retry_delay_seconds=[], timeout_seconds=None, tags=[]
    )


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"retry": 1}, "retry: Extra inputs are not permitted."),
        ({"retries": -1}, "retries: Input should be greater than or equal to 0."),
        ({"timeout_seconds": 0}, "timeout_seconds: Input should be greater than 0."),
        ({"tags": 1, "x": 2}, "tags: Input should be a valid list; x: Extra inputs "),
    ],
)
def test_options_that_cannot_be_used_are_one_sentence(given, fault):
    with pytest.raises(LedgerError) as error:
        _options("train@a", Plan(frozenset(), "", {"prefect": given}))
    assert str(error.value).startswith(
        f"meta.prefect of stage 'train@a' in dvc.yaml can't be used: {fault}"
    )


def test_programs_are_found_beside_the_running_interpreter_first():
    here = str(Path(sys.executable).parent)
    found = environment({"PATH": "/usr/bin", "WORD": "kept"})
    assert found == {
        "PATH": f"{here}{os.pathsep}/usr/bin",
        "WORD": "kept",
        "PYTHONUNBUFFERED": "1",
    }


def test_a_system_that_starts_no_process_is_one_sentence(
    project, prefect_server, monkeypatch
):
    def refused(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Processes, "run", refused)
    state, flow_run_id = run(project)
    assert state.is_failed()
    log = "\n".join(logged(flow_run_id))
    assert "Too many open files; allow more open files (`ulimit -n`) and run" in log
    assert "Traceback" not in log


def test_what_commands_print_is_the_log_and_progress_one_artifact(
    project, prefect_server
):
    project.write(
        "dvc.yaml",
        """\
stages:
  Train:
    foreach: [mom_0.9]
    do:
      cmd: >-
        echo begun;
        printf '\\repoch:   0%%|          | 0/4\\repoch:  25%%|##5       | 1/4';
        printf '\\repoch:  75%%|#######5  | 3/4\\repoch: 100%%|##########| 4/4\\n';
        echo ended
""",
    )
    state, flow_run = run(project)
    assert state.is_completed()
    assert artifacts(flow_run) == [
        ("progress-train-mom-0-9", "progress", "Train@mom_0.9: epoch", 100.0)
    ]
    log = logged(flow_run)
    assert "begun" in log
    assert "ended" in log
    assert [
        line for line in log if "%|" in line and not line.startswith("Running")
    ] == []


def test_progress_that_cannot_be_shown_stands_in_the_log():
    lines = []
    listener = Listener("train", lambda form, line: lines.append(form % line))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        listener("train:  42%|####      | 42/100")
    assert lines == ["train:  42%|####      | 42/100"]


def test_a_task_is_named_and_tagged_after_its_stage(project, prefect_server):
    project.edit(
        "dvc.yaml",
        "      cmd: sh each.sh",
        "      meta: {prefect: {tags: [model]}}\n      cmd: sh each.sh",
    )
    _, flow_run = run(project)
    # The server hears of tasks as events, a little later.
    wait_until(lambda: len(task_runs(flow_run)) == 4)
    assert task_runs(flow_run) == [
        ("each@a", "model"),
        ("each@b", "model"),
        ("first",),
        ("last",),
    ]


def test_options_are_looked_at_before_anything_runs(project, prefect_server):
    project.edit(
        "dvc.yaml",
        "    cmd: sh last.sh\n",
        "    cmd: sh last.sh\n    meta: {prefect: {retry: 2}}\n",
    )

    @flow
    def anything():
        with opened(project.root, [], force=False, wait=True):
            pytest.fail("A plan could submit its first stages here.")

    with pytest.raises(LedgerError, match="^meta.prefect of stage 'last' in dvc.yaml "):
        anything()


def test_nothing_runs_on_when_the_flow_itself_fails(project, prefect_server):
    @flow
    def broken():
        work = opened(project.root, [], force=False, wait=True)
        with suppress(ZeroDivisionError), work as (run, _):
            run.step("first")
            child = project.wait_for("first")
            raise ZeroDivisionError
        return alive(child)

    project.hold("first")
    assert broken() is False


def test_a_folder_that_is_no_checkout_is_refused_and_left_alone(
    tmp_path, prefect_server
):
    state = anyflow(tmp_path, [], return_state=True)
    assert state.name == "Failed"
    assert state.message.startswith("you are not inside of a DVC repository")
    assert list(tmp_path.iterdir()) == []
