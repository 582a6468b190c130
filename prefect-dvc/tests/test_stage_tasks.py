"""Each stage is a Prefect task with its settings, log and artifacts in the UI."""

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

from prefect_dvc import DvcProject
from prefect_dvc.errors import ProjectError
from prefect_dvc.processes import Processes, environment
from prefect_dvc.stage_options import StageOptions

# DVC's own, when it looks up the outputs of a stage.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")


def run(project):
    """Run the flow; return its state and the id of its run."""
    state = anyflow(project.root, [], return_state=True)
    return state, state.state_details.flow_run_id


def logged(flow_run_id):
    """Return the log of a flow run, in order."""
    APILogHandler().flush()
    with get_client(sync_client=True) as client:
        chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
        return [log.message for log in client.read_logs(chosen)]


def artifacts(flow_run_id):
    """Return key, type, description and data of a flow run's artifacts."""
    with get_client(sync_client=True) as client:
        chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        return [
            (found.key, found.type, found.description, found.data)
            for found in client.read_artifacts(artifact_filter=chosen)
        ]


def task_runs(flow_run_id):
    """Return name and tags of a flow run's tasks, sorted."""
    with get_client(sync_client=True) as client:
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        found = client.read_task_runs(flow_run_filter=chosen)
        return sorted((run.name, *run.tags) for run in found)


def test_stages_have_no_retries_limits_or_tags_by_default():
    assert StageOptions.of("s", {"other": 1}) == StageOptions(
        retries=0, retry_delay_seconds=[], timeout_seconds=None, tags=[], cores=1
    )


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"retry": 1}, "retry: Extra inputs"),
        ({"retries": -1}, "retries: Input should be greater than or equal to 0"),
        ({"timeout_seconds": 0}, "timeout_seconds: Input should be greater than 0"),
        ({"cores": 0}, "cores: Input should be greater than or equal to 1"),
        ({"tags": 1, "x": 2}, "tags: Input should be a valid list; x: Extra inputs "),
    ],
)
def test_invalid_options_are_refused_in_one_sentence(given, fault):
    with pytest.raises(ProjectError) as error:
        StageOptions.of("train@a", {"prefect": given})
    assert str(error.value).startswith(
        f"meta.prefect of stage 'train@a' in dvc.yaml is invalid: {fault}"
    )


def test_commands_find_the_running_interpreter_first():
    here = str(Path(sys.executable).parent)
    found = environment({"PATH": "/usr/bin", "WORD": "here"})
    assert found == {
        "PATH": f"{here}{os.pathsep}/usr/bin",
        "WORD": "here",
        "PYTHONUNBUFFERED": "1",
    }


def test_a_process_that_cannot_start_is_explained_in_one_sentence(
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


def test_printed_lines_go_to_the_log_and_progress_to_one_artifact(
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
    assert [found for found in artifacts(flow_run) if found[1] == "progress"] == [
        ("progress-train-mom-0-9", "progress", "Train@mom_0.9: epoch", 100.0)
    ]
    log = logged(flow_run)
    assert "begun" in log
    assert "ended" in log
    assert [
        line for line in log if "%|" in line and not line.startswith("Running")
    ] == []


def test_a_task_has_the_name_and_tags_of_its_stage(project, prefect_server):
    project.edit(
        "dvc.yaml",
        "      cmd: sh each.sh",
        "      meta: {prefect: {tags: [model]}}\n      cmd: sh each.sh",
    )
    _, flow_run = run(project)
    # The server receives task runs as events, a little later.
    wait_until(lambda: len(task_runs(flow_run)) == 4)
    assert task_runs(flow_run) == [
        ("each@a", "model"),
        ("each@b", "model"),
        ("first",),
        ("last",),
    ]


def test_options_are_checked_before_anything_runs(project, prefect_server):
    project.edit(
        "dvc.yaml",
        "    cmd: sh last.sh\n",
        "    cmd: sh last.sh\n    meta: {prefect: {retry: 2}}\n",
    )

    @flow
    def anything():
        with DvcProject(project.root).open():
            pytest.fail("Stages could be submitted here.")

    with pytest.raises(
        ProjectError, match="^meta.prefect of stage 'last' in dvc.yaml "
    ):
        anything()


def test_stages_are_stopped_if_the_flow_fails(project, prefect_server):
    @flow
    def broken():
        opened = DvcProject(project.root).open()
        with suppress(ZeroDivisionError), opened as run:
            run.submit_all()
            child = project.wait_for("first")
            raise ZeroDivisionError
        return alive(child)

    project.hold("first")
    assert broken() is False


def test_a_folder_without_a_repository_is_refused_and_left_alone(
    tmp_path, prefect_server
):
    state = anyflow(tmp_path, [], return_state=True)
    assert state.name == "Failed"
    assert state.message.startswith("you are not inside of a DVC repository")
    assert list(tmp_path.iterdir()) == []
