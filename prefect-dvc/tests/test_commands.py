"""Commands that are not stages run as children of the run and return their lines."""

import pytest

from prefect_dvc.commands import Commands
from prefect_dvc.cores import Cores
from prefect_dvc.errors import CommandFailed, Stopped, TimedOut
from prefect_dvc.processes import Processes


@pytest.fixture
def processes():
    with Processes() as processes:
        yield processes


@pytest.fixture
def commands(processes):
    return Commands("task", processes, Cores(1, {}, {}))


def sh(commands, script, **options):
    return commands.run(["/bin/sh", "-c", script], **options)


def test_printed_lines_reach_the_listener_and_are_returned(commands, tmp_path):
    passed_on = []
    lines = sh(
        commands,
        "pwd; echo $COLOUR",
        cwd=tmp_path,
        on_line=passed_on.append,
        env={"COLOUR": "red"},
    )
    assert lines == passed_on == [str(tmp_path), "red"]


def test_a_failure_has_the_last_line_as_its_reason(commands):
    with pytest.raises(CommandFailed, match="^it is full$") as failure:
        sh(commands, "echo it is full; exit 3")
    assert failure.value.status == 3


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 4", "The command ended with status 4 and gave no reason."),
        ("kill -9 $$", "The command was ended by signal 9 and gave no reason."),
    ],
)
def test_a_failure_without_output_has_its_status_as_its_reason(
    commands, script, reason
):
    with pytest.raises(CommandFailed) as failure:
        sh(commands, script)
    assert failure.value.reason == reason


def test_a_command_that_takes_too_long_is_ended(commands):
    with pytest.raises(TimedOut):
        sh(commands, "exec sleep 60", timeout_seconds=0.1)


def test_a_stopped_run_starts_no_command(commands, processes, tmp_path):
    processes.stop()
    with pytest.raises(Stopped):
        sh(commands, "touch ran", cwd=tmp_path)
    assert not (tmp_path / "ran").exists()
