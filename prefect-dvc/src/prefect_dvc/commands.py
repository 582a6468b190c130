"""Run commands that are not stages, and log what commands print."""

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger

from prefect_dvc.cores import Cores
from prefect_dvc.processes import Processes, environment

# tqdm's "description:  42%|####   |", which other progress bars imitate.
PROGRESS = re.compile(r"(?P<description>.*?):?\s*(?P<percent>\d+)%\|")


class Commands:
    """Runs a task's commands: they end with the run, and share its cores."""

    def __init__(self, name: str, processes: Processes, cores: Cores) -> None:
        self._name = name
        self._processes = processes
        self._cores = cores

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        on_line: Callable[[str], object] | None = None,
        timeout_seconds: float | None = None,
        env: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Run a command on one core to its end; return the lines that it printed.

        Args:
            command: the argument vector.
            cwd: the folder to run it in; the current directory if None.
            on_line: called with each line as it is printed. If None, lines go to the
                task's log, and progress bars to a progress artifact.
            timeout_seconds: time limit.
            env: environment variables, in addition to this process's.

        Raises:
            CommandFailed: it ended with a status other than 0.
            TimedOut: it took longer than `timeout_seconds`.
            Stopped: the run was stopped.
        """
        lines: list[str] = []
        show = on_line or Listener(self._name)

        def listen(line: str) -> None:
            lines.append(line)
            show(line)

        process = {
            "cwd": str(cwd or Path.cwd()),
            "env": environment({**os.environ, **(env or {})}),
        }
        with self._cores.held(self._name, pause=self._processes.pause):
            self._processes.run(list(command), process, listen, timeout_seconds)
        return lines


class Listener:
    """Receives a command's lines: progress goes to an artifact, the rest to the log."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._log = run_log()
        self._artifact: Any = None
        self._percent = -1

    def __call__(self, line: str) -> None:
        """Log one line, or update the progress artifact."""
        if match := PROGRESS.match(line):
            try:
                self._update(match["description"].strip(), int(match["percent"]))
            except Exception:  # noqa: BLE001  # the stage goes on without the artifact
                self._log.info("%s", line)
        else:
            self._log.info("%s", line)

    def _update(self, description: str, percent: int) -> None:
        if percent == self._percent:
            return
        self._percent = percent
        if self._artifact is None:
            # Keys may hold lowercase letters, digits and dashes.
            key = re.sub(r"[^a-z0-9]+", "-", f"progress-{self._stage}".lower())
            self._artifact = create_progress_artifact(
                percent, key=key, description=f"{self._stage}: {description}"
            )
        else:
            update_progress_artifact(self._artifact, percent)


def run_log() -> logging.Logger | logging.LoggerAdapter[Any]:
    """Return the logger of the current run; outside of a run, it only prints."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("prefect_dvc")
