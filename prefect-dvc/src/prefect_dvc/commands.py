"""Run a step that is no stage of dvc.yaml as a child process, inside a Prefect task."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Failed

from prefect_dvc.processes import Children, CommandFailed, Stopped, environment


def run(
    children: Children,
    command: list[str],
    root: Path,
    say: Callable[[str], object] = len,
    **variables: str,
) -> list[str]:
    """Run `command` in the folder `root`, on a core of its own; return what it printed.

    Args:
        children: that it becomes one of.
        command: its words.
        root: the folder to run it in.
        say: is given each line as it comes.
        variables: of its environment, besides this one's.

    Raises:
        CommandFailed: it ended with another status than 0.
        Stopped: the run was told to stop.
    """
    lines: list[str] = []

    def listen(line: str) -> None:
        lines.append(line)
        say(line)

    process = {"cwd": str(root), "env": environment(os.environ) | variables}
    with children.core():
        children.run(command, process, listen)
    return lines


def failed(failure: CommandFailed | Stopped) -> State[Any]:
    """Return the state of a task whose command ended so."""
    if isinstance(failure, Stopped):
        return Failed(name="Stopped", message="It was stopped with the flow.")
    return Failed(message=failure.reason)
