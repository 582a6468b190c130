"""The log of a run, and the progress bars that its commands print."""

import logging
import re
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger

Log = logging.Logger | logging.LoggerAdapter[Any]

# tqdm's "description:  42%|####   |", which other progress bars imitate.
PROGRESS = re.compile(r"(?P<description>.*?):?\s*(?P<percent>\d+)%\|")


def run_log() -> Log:
    """Return the logger of the current flow or task run.

    Outside of a run, it is a logger that only prints to the console.
    """
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("prefect_dvc")


class Listener:
    """Receives a command's lines: progress goes to an artifact, the rest to the log."""

    def __init__(self, stage: str, log: Log) -> None:
        self._stage = stage
        self._log = log
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
