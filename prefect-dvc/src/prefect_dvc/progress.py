"""What a stage prints while it runs: progress bars and other lines."""

import re
from collections.abc import Callable
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact

# tqdm's "description:  42%|####   |", which other progress bars imitate.
PROGRESS = re.compile(r"(?P<what>.*?):?\s*(?P<percent>\d+)%\|")


class Listener:
    """Takes a child's lines: progress goes to an artifact, the rest to the log."""

    def __init__(self, stage: str, log: Callable[[str, str], object]) -> None:
        self._stage = stage
        self._log = log
        self._artifact: Any = None
        self._percent = -1

    def __call__(self, line: str) -> None:
        """Show one line where it belongs."""
        if match := PROGRESS.match(line):
            try:
                self._progress(match["what"].strip(), int(match["percent"]))
            except Exception:  # noqa: BLE001  # no stage fails because none can watch it
                self._log("%s", line)
        else:
            self._log("%s", line)

    def _progress(self, what: str, percent: int) -> None:
        if percent == self._percent:
            return
        self._percent = percent
        if self._artifact is None:
            # Keys may hold lowercase letters, digits and dashes.
            key = re.sub(r"[^a-z0-9]+", "-", f"progress-{self._stage}".lower())
            self._artifact = create_progress_artifact(
                percent, key=key, description=f"{self._stage}: {what}"
            )
        else:
            update_progress_artifact(self._artifact, percent)
