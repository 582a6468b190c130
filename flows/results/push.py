"""The last task of a flow: `dvc push`, to DVC's default remote.

If the push fails, the task says why and the flow still ends Completed, unless `push` is
`always`.
"""

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from flows.results.remote import RemoteError, configuration, masked
from flows.results.run_state import errors_as_states
from prefect_dvc import CommandFailed, Commands, ProjectRun, TimedOut

DESCRIPTION = "Copy the results to DVC's default remote."
When = Literal["auto", "never", "always"]

# As for the download in dvc.yaml: networks mostly recover soon. A retry skips the files
# that were pushed before.
RETRY_DELAY_SECONDS = [5.0, 25.0]
# As long as the longest stage may take. Some clients wait for an answer forever.
TIMEOUT_SECONDS = 3600.0

# DVC prefixes the lines that say why it fails.
ERROR = "ERROR: "
UNEXPECTED = "unexpected error - "
# DVC only warns of files that it can't push, but the next clone needs them.
INCOMPLETE = "WARNING: Some of the cache files do not exist"
# Errors in the configuration or the environment, which no retry removes.
FINAL = (
    "config file error",
    "configuration error",
    "to be installed",
    "missing from DVC's cache",
)


@dataclass
class Pusher:
    """Pushes the results of a run, if it should.

    Attributes:
        root: the folder with `.dvc/`, and the current directory.
        when: `auto`: if DVC has a default remote; `never`; or `always`: a run that
            can't push fails.
        targets: stages, to push their outputs and those they need; empty: all.
        champions: returns the MD5 of more files in DVC's cache, which dvc.lock may not
            name; called after everything else is pushed.

    Raises:
        RemoteError: `when` is `always` and DVC has no default remote, or DVC's
            configuration can't be read.
    """

    root: Path
    when: When
    targets: list[str]
    champions: Callable[[], Iterable[str]] = tuple

    def __post_init__(self) -> None:
        config = configuration(self.root)
        self._remote: str | None = config["core"].get("remote")
        self._remotes = config["remote"]
        if self.when == "always" and self._remote is None:
            raise RemoteError(
                "The run must push its results, but DVC has no default remote; choose "
                "one with `dvc remote default NAME`, or run with --push auto."
            )

    def finish(self, run: ProjectRun, state: State[Any]) -> State[Any]:
        """Push if necessary; return the state in which the flow ends.

        All stages have ended in `state`; if it is a failure, nothing is pushed.
        """
        if not state.is_completed() or self.when == "never" or self._remote is None:
            return state
        task = run.after(
            None,
            "push",
            self.push,
            description=DESCRIPTION,
            retry_delay_seconds=RETRY_DELAY_SECONDS,
        )
        task.wait()
        pushed = task.state
        if not pushed.is_completed():
            if self.when == "always":
                return Failed(message=pushed.message)
            get_run_logger().warning("%s", pushed.message)
        return Completed(name=state.name, message=f"{state.message} {pushed.message}")

    @errors_as_states
    def push(self, commands: Commands) -> State[Any]:
        """Push, as the body of the task."""
        started = time.monotonic()
        stages = ["--with-deps", *self.targets] if self.targets else []
        try:
            summary = self._run(commands, ["dvc", "push", *stages])
            if md5s := [*self.champions()]:
                module = [sys.executable, "-m", "flows.results.remote"]
                self._run(commands, [*module, *md5s])
        except CommandFailed as failure:
            return self._failed(failure.reason)
        except TimedOut as failure:
            return self._failed(f"it {failure}.")
        seconds = time.monotonic() - started
        message = f"push to {self._remote!r}: {summary} ({seconds:.1f} s)"
        return Completed(message=message)

    def _run(self, commands: Commands, command: list[str]) -> str:
        """Run `command` and log its output; return the last line.

        A failure is raised with the first line that says why.
        """
        lines: list[str] = []

        def log_line(line: str) -> None:
            lines.append(masked(line, self._remotes))
            get_run_logger().info("%s", lines[-1])

        try:
            commands.run(
                command,
                cwd=self.root,
                on_line=log_line,
                timeout_seconds=TIMEOUT_SECONDS,
            )
        except CommandFailed as failure:
            errors = [line for line in lines if line.startswith(ERROR)]
            reason = errors[0] if errors else masked(failure.reason, self._remotes)
            reason = reason.removeprefix(ERROR).removeprefix(UNEXPECTED)
            raise CommandFailed(failure.status, reason) from failure
        if any(line.startswith(INCOMPLETE) for line in lines):
            reason = "files are missing from DVC's cache; `dvc commit` restores them."
            raise CommandFailed(0, reason)
        return lines[-1] if lines else ""

    def _failed(self, reason: str) -> State[Any]:
        """Return the state of a push that failed; `Unavailable` is retried."""
        return Failed(
            name="Failed" if any(text in reason for text in FINAL) else "Unavailable",
            message=(
                f"The results were not pushed to {self._remote!r} (`dvc push` tries "
                f"again): {reason}"
            ),
        )
