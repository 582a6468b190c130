"""The command line, as a user types it."""

import gc
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_dvc.cli import main

# DVC's own, when it looks up the outputs of a stage.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

EXAMPLE = Path(__file__).parent.parent / "examples" / "tabular"
COMMAND = [sys.executable, "-m", "prefect_dvc.cli"]
NOWHERE = "http://127.0.0.1:9/api"


@pytest.fixture
def typed(capfd):
    """Call `prefect-dvc` in this process; return its exit status and its output."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        gc.enable()
        output = "".join(capfd.readouterr())
        assert "Traceback" not in output, output
        return ended.value.code, output

    return call


def started(root, environment, *arguments):
    """Run `prefect-dvc` as a program; return its exit status and its output."""
    ended = subprocess.run(
        [*COMMAND, *arguments],
        cwd=root,
        env=os.environ | environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert "Traceback" not in ended.stdout, ended.stdout
    return ended.returncode, ended.stdout


def test_plan_prints_each_stage_with_its_action_and_reason(typed, built):
    built.edit("params.yaml", "a: plus", "a: times")
    status, output = typed("plan")
    assert status == 0
    rows = [line.split(maxsplit=2)[:2] for line in output.splitlines()]
    assert rows == [
        ["stage", "action"],
        ["first", "unchanged"],
        ["each@a", "run"],
        ["each@b", "unchanged"],
        ["last", "run"],
    ]
    assert "parameter signs.a changed from plus to times" in output
    assert built.ran() == []


def test_why_names_every_change_with_its_old_and_new_value(typed, built):
    built.edit("params.yaml", "hello", "good day")
    built.edit("source.txt", "world", "earth")
    status, output = typed("why", "first")
    assert status == 0
    first, *changes = output.splitlines()
    assert first == "first: run"
    assert "  parameter text changed from hello to good day" in changes
    assert any("dependency source.txt changed from " in change for change in changes)


def test_run_brings_the_stages_up_to_date(project, prefect_server):
    status, output = started(project.root, prefect_server, "run")
    assert status == 0
    assert project.ran() == ["each@a", "each@b", "first", "last"]
    assert output.splitlines()[-1] == "Stages: 4 ran, 0 Cached."
    assert project.repro() == []


def test_run_without_a_change_starts_no_flow(typed, built):
    with temporary_settings({PREFECT_API_URL: NOWHERE}):
        status, output = typed("run")
    assert status == 0
    assert output.splitlines()[-1] == "Nothing to run: every stage is unchanged."


def test_a_failed_stage_ends_the_run_with_its_reason_and_status_1(
    typed, project, prefect_server
):
    project.fail("first", 3, "There is no more paper.")
    status, output = typed("run")
    assert status == 1
    assert "prefect-dvc: first failed: There is no more paper." in output
    assert project.ran() == ["first"]


def test_dry_prints_the_commands_and_runs_none(typed, project):
    status, output = typed("run", "--dry", "each@b")
    assert status == 0
    assert output.splitlines() == [
        "Stage 'first' would run:",
        "> sh first.sh",
        "Stage 'each@b' would run:",
        "> sh each.sh b minus",
    ]
    assert project.ran() == []


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_mistake_in_dvc_yaml_is_one_sentence(typed, project, command):
    project.edit("dvc.yaml", "stages:", "stages: [")
    with temporary_settings({PREFECT_API_URL: NOWHERE}):
        status, output = typed(command)
    assert status == 1
    (line,) = output.splitlines()
    assert line.startswith("prefect-dvc: ")
    assert "dvc.yaml" in line


@pytest.mark.slow
def test_a_terminal_shows_the_stages_live_and_a_summary(project, prefect_server):
    main, terminal = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "run"],
        cwd=project.root,
        env=os.environ | prefect_server | {"TERM": "xterm", "COLUMNS": "80"},
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        output = b""
        try:
            while chunk := os.read(main, 65536):
                output += chunk
        except OSError:  # how Linux says that the terminal is closed
            pass
        assert process.wait(60) == 0
    os.close(main)
    text = output.decode()
    assert "each@a" in text
    assert "Task run" not in text, "Prefect's log would break the display"
    assert "Stages: 4 ran, 0 Cached." in text


def test_deploy_makes_a_deployment_with_the_schedule(typed, built, prefect_server):
    arguments = ["--cron", "0 3 * * *", "--timezone", "Europe/London", "--keep-going"]
    status, output = typed("deploy", *arguments)
    assert status == 0
    assert "prefect worker start --pool dvc" in output
    with (
        temporary_settings({PREFECT_API_URL: prefect_server["PREFECT_API_URL"]}),
        get_client(sync_client=True) as client,
    ):
        found = client.read_deployment_by_name("prefect-dvc/project")
    (schedule,) = found.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == (
        "0 3 * * *",
        "Europe/London",
    )
    assert found.parameters["folder"] == str(built.root)
    assert found.parameters["options"] == {"keep_going": True}
    assert found.work_pool_name == "dvc"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--cron", "0 25 * * *"], "is invalid"),
        (["--cron", "0 3 * * *", "--timezone", "Mars/Base"], "is invalid"),
        (["--timezone", "Europe/London"], "--timezone needs --cron"),
    ],
)
def test_an_invalid_schedule_is_one_sentence(
    typed, built, prefect_server, arguments, reason
):
    status, output = typed("deploy", *arguments)
    assert status == 1
    (line,) = output.splitlines()
    assert reason in line


def test_deploy_without_a_server_says_how_to_start_one(typed, built):
    with temporary_settings({PREFECT_API_URL: NOWHERE}):
        status, output = typed("deploy")
    assert status == 1
    assert "start one with `prefect server start`" in output


@pytest.mark.slow
def test_the_example_runs_and_repro_then_has_nothing_to_do(tmp_path, prefect_server):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    root = tmp_path / "tabular"
    shutil.copytree(EXAMPLE, root)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    status, output = started(root, prefect_server, "run")
    assert status == 0, output
    assert (root / "predictions.svg").exists()
    repro = [sys.executable, "-m", "dvc", "repro"]
    ended = subprocess.run(repro, cwd=root, check=True, capture_output=True, text=True)
    assert "Data and pipelines are up to date." in ended.stdout
    assert "Running stage" not in ended.stdout
