"""A command that is no stage, as a child inside a task."""

import pytest

from prefect_dvc import commands
from prefect_dvc.processes import Children, CommandFailed, Stopped


def run(tmp_path, script: str, **more) -> list[str]:
    with Children(1) as children:
        return commands.run(children, ["/bin/sh", "-c", script], tmp_path, **more)


def test_what_it_prints_is_said_and_returned(tmp_path):
    said = []
    lines = run(tmp_path, "pwd; echo $COLOUR", say=said.append, COLOUR="red")
    assert lines == said == [str(tmp_path), "red"]


def test_its_last_line_is_the_reason_of_its_failure(tmp_path):
    with pytest.raises(CommandFailed) as caught:
        run(tmp_path, "echo it is full; exit 3")
    assert caught.value.status == 3
    state = commands.failed(caught.value)
    assert (state.name, state.message) == ("Failed", "it is full")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 4", "The command ended with status 4 and gave no reason."),
        ("kill -9 $$", "The command was ended by signal 9 and gave no reason."),
    ],
)
def test_without_a_line_its_end_is_the_reason(tmp_path, script, reason):
    with pytest.raises(CommandFailed) as caught:
        run(tmp_path, script)
    assert commands.failed(caught.value).message == reason


def test_a_run_that_was_told_to_stop_starts_nothing(tmp_path):
    with Children(1) as children:
        children.stop()
        with pytest.raises(Stopped) as caught:
            commands.run(children, ["/bin/sh", "-c", "touch ran"], tmp_path)
    assert commands.failed(caught.value).name == "Stopped"
    assert not (tmp_path / "ran").exists()
