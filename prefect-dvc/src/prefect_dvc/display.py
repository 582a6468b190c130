"""Show a run in the terminal: a live display there, plain lines elsewhere."""

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from prefect_dvc.results import Events, Outcome, RunResult, StageResult

TAIL_LINES = 20
STYLES = {
    Outcome.UNCHANGED: "dim",
    Outcome.RESTORED: "cyan",
    Outcome.RAN: "green",
    Outcome.FAILED: "bold red",
    Outcome.SKIPPED: "yellow",
}


class LiveEvents(Events):
    """One line per running stage: name, elapsed time, last line printed."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._running: dict[str, TaskID] = {}
        self._tails: dict[str, deque[str]] = {}

    def started(self, name: str, reason: str) -> None:
        """Add a line for the stage."""
        self._tails[name] = deque(maxlen=TAIL_LINES)
        self._running[name] = self._progress.add_task(name, total=None, line="")
        text = Text.assemble((name, "bold"), (f"  {reason}", "dim"))
        self._progress.console.print(text)

    def printed(self, name: str, line: str) -> None:
        """Show the line behind the stage."""
        self._tails[name].append(line)
        if name in self._running:
            self._progress.update(self._running[name], line=line)

    def ended(self, result: StageResult) -> None:
        """Remove the stage's line; print the last lines of a failed one."""
        console = self._progress.console
        if (task := self._running.pop(result.name, None)) is not None:
            self._progress.remove_task(task)
        if result.outcome is Outcome.FAILED:
            for line in self._tails.get(result.name, ()):
                console.print(Text(f"  {line}"))
        seconds = f" in {result.seconds:.1f} s" if result.seconds else ""
        outcome = (f"{result.outcome}{seconds}", STYLES[result.outcome])
        message = "" if result.outcome.up_to_date else f": {result.message}"
        console.print(Text.assemble((result.name, "bold"), " ", outcome, message))


@contextmanager
def shown(*, verbose: bool) -> Iterator[Events]:
    """Show a run while it goes on, and a summary table when it has ended.

    If `verbose`, a terminal gets plain lines with all output too.
    """
    console = Console()
    events = Events()
    if console.is_terminal and not verbose:
        one_line = Column(no_wrap=True, overflow="ellipsis")
        progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            TextColumn(
                "{task.fields[line]}", style="dim", markup=False, table_column=one_line
            ),
            console=console,
        )
        events = LiveEvents(progress)
        with _quiet_console(), progress:
            yield events
    else:
        yield events  # Prefect's own log shows the rest
    if events.result:
        console.print(_summary(events.result))


def _summary(result: RunResult) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("stage", "outcome", "seconds"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for stage in result:
        seconds = f"{stage.seconds:.1f}" if stage.seconds else ""
        outcome = Text(stage.outcome, style=STYLES[stage.outcome])
        table.add_row(stage.name, outcome, seconds)
    return table


@contextmanager
def _quiet_console() -> Iterator[None]:
    """Keep Prefect's log off the terminal, where the display is."""
    setup_logging()
    handlers = [
        handler
        for handler in logging.root.handlers
        if isinstance(handler, PrefectConsoleHandler)
    ]
    # A level would not help: Prefect sets it again when the flow starts.
    for handler in handlers:
        handler.addFilter(_drop)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_drop)


def _drop(_record: logging.LogRecord) -> bool:
    return False
