"""What a run reports while it goes on, for a live display."""

from prefect_dvc.results import RunResult, StageResult


class Events:
    """Receives what happens in a run; this one ignores it.

    The methods are called from the stages' threads.
    """

    def started(self, name: str, reason: str) -> None:
        """Stage `name` starts to run its commands."""

    def printed(self, name: str, line: str) -> None:
        """A command of stage `name` printed a line."""

    def ended(self, result: StageResult) -> None:
        """A stage ended; one that is retried ends several times."""

    def finished(self, result: RunResult) -> None:
        """All stages have ended."""
