"""The last task of a flow: `dvc push`, to DVC's default remote.

A run that can't push has made its results all the same: the task is red and says why,
and the flow ends Completed, unless it was told to push `always`.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from flows.results.redact import masked
from flows.results.remote import NoDefault, configuration
from prefect_dvc import CommandFailed, Commands, ProjectRun, Stopped, TimedOut

NAME = "push"
DESCRIPTION = "Copy the results to DVC's default remote."
When = Literal["auto", "never", "always"]

# As for the download in dvc.yaml: a network that comes back mostly does so soon. What
# was pushed before a failure need not be pushed again.
RETRY_DELAY_SECONDS = [5.0, 25.0]
# As long as the longest stage may take: some clients wait for an answer for ever.
TIMEOUT_SECONDS = 3600.0

# How DVC begins the lines that say why it fails.
ERROR = "ERROR: "
UNEXPECTED = "unexpected error - "
# With this one it does not fail, but leaves out what the next clone will look for.
INCOMPLETE = "WARNING: Some of the cache files do not exist"
# What is wrong in the configuration or the environment is wrong the next time too.
FINAL = (
    "config file error",
    "configuration error",
    "to be installed",
    "missing from DVC's cache",
)


class Pusher:
    """What is pushed of the checkout at `root`, and when.

    Args:
        root: the folder with `.dvc/`, and the current directory.
        when: `auto`: if DVC has a default remote; `never`; or `always`, with which a
            run fails that can't push.
        targets: stages, to push their outputs and those they need; none means all.
        champions: asked when all else is pushed for the md5 of files in DVC's cache to
            be pushed too, which dvc.lock need not name.

    Raises:
        NoDefault: it is to be done always, and DVC has no default remote.
        Unreachable: DVC's configuration can't be read.
    """

    def __init__(
        self,
        root: Path,
        when: When,
        targets: list[str],
        champions: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        found = configuration(root)
        self._remote: str | None = found["core"].get("remote")
        self._remotes = found["remote"]
        self._root = root
        self._when = when
        self._targets = targets
        self._champions = champions
        if when == "always" and self._remote is None:
            raise NoDefault(
                "The run is to push its results, but DVC has no default remote; name "
                "one by `dvc remote default NAME`, or run with --push auto."
            )

    def finish(self, run: ProjectRun, state: State[Any]) -> State[Any]:
        """Push, if it is to be done; return what the flow ends with.

        Args:
            run: the stages, all of which have ended.
            state: what it would end with otherwise; if it failed, nothing is pushed.
        """
        if not state.is_completed() or self._when == "never" or self._remote is None:
            return state
        task = run.after(
            None,
            NAME,
            self._run,
            description=DESCRIPTION,
            retry_delay_seconds=RETRY_DELAY_SECONDS,
        )
        task.wait()
        pushed = task.state
        if not pushed.is_completed() and self._when == "always":
            return Failed(message=pushed.message)
        if not pushed.is_completed():
            get_run_logger().warning("%s", pushed.message)
        return Completed(name=state.name, message=f"{state.message} {pushed.message}")

    def _run(self, commands: Commands) -> State[Any]:
        """Be the body of the task."""
        started = time.monotonic()
        said = ""
        try:
            for command in self._commands():
                said = self._execute(commands, command) or said
        except (CommandFailed, TimedOut) as failure:
            return self._failed(failure)
        except Stopped:
            return Failed(name="Stopped", message="push was stopped with the flow.")
        seconds = time.monotonic() - started
        return Completed(message=f"push to {self._remote!r}: {said} ({seconds:.1f} s)")

    def _commands(self) -> Iterator[list[str]]:
        which = ["--with-deps", *self._targets] if self._targets else []
        yield ["dvc", "push", *which]
        if md5s := [*self._champions()]:
            yield [sys.executable, "-m", "flows.results.remote", *md5s]

    def _execute(self, commands: Commands, command: list[str]) -> str:
        """Run `command`; return the last line that it printed.

        Raises:
            CommandFailed: with its first line that says why, which DVC follows by
                others; or it left files out.
        """
        logger = get_run_logger()
        lines: list[str] = []

        def listen(line: str) -> None:
            lines.append(masked(line, self._remotes))
            logger.info("%s", lines[-1])

        try:
            commands.run(
                command,
                cwd=self._root,
                on_line=listen,
                timeout_seconds=TIMEOUT_SECONDS,
            )
        except CommandFailed as failure:
            errors = [line for line in lines if line.startswith(ERROR)]
            reason = (errors or lines[-1:] or ["it gave no reason."])[0]
            reason = reason.removeprefix(ERROR).removeprefix(UNEXPECTED)
            raise CommandFailed(failure.status, reason) from failure
        if any(line.startswith(INCOMPLETE) for line in lines):
            reason = "files are missing from DVC's cache; `dvc commit` puts them there."
            raise CommandFailed(0, reason)
        return lines[-1] if lines else ""

    def _failed(self, failure: CommandFailed | TimedOut) -> State[Any]:
        """Say that nothing, or not everything, was pushed, and why."""
        reason = (
            failure.last_line
            if isinstance(failure, CommandFailed)
            else f"it {failure}."
        )
        final = any(words in reason for words in FINAL)
        return Failed(
            name="Failed" if final else "Unavailable",
            message=(
                f"The results were not pushed to {self._remote!r} (`dvc push` tries "
                f"again): {reason}"
            ),
        )
