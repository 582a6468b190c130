"""Run commands that are not stages, inside a task of a run."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from prefect_dvc.cores import Cores
from prefect_dvc.processes import Processes, environment
from prefect_dvc.progress import Listener, run_log


class Commands:
    """Runs commands as children of a run: they end with it and share its cores.

    Args:
        name: the task that runs them.
        processes: of the run.
        cores: of the run.
    """

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
        show = on_line or Listener(self._name, run_log())

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
