"""Show a run in the terminal: live where it is one, plain lines elsewhere."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from prefect_dvc.events import Events
from prefect_dvc.results import Outcome, RunResult, StageResult

TAIL_LINES = 20
STYLES = {
    Outcome.UNCHANGED: "dim",
    Outcome.RESTORED: "cyan",
    Outcome.RAN: "green",
    Outcome.FAILED: "bold red",
    Outcome.SKIPPED: "yellow",
}


class SummaryEvents(Events):
    """Keeps the outcomes for the summary at the end."""

    def __init__(self) -> None:
        self.result: RunResult | None = None

    def finished(self, result: RunResult) -> None:
        """Keep the outcomes."""
        self.result = result


class LiveEvents(SummaryEvents):
    """One line per running stage: name, elapsed time, last line printed."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._running: dict[str, tuple[float, list[str]]] = {}
        self._spinner = Spinner("dots")
        self._lock = threading.Lock()

    def started(self, name: str, reason: str) -> None:
        """Add a line for the stage."""
        with self._lock:
            self._running[name] = (time.monotonic(), [])
        self._console.print(Text.assemble((name, "bold"), (f"  {reason}", "dim")))

    def printed(self, name: str, line: str) -> None:
        """Show the line behind the stage."""
        with self._lock:
            if name in self._running:
                lines = self._running[name][1]
                lines.append(line)
                del lines[:-TAIL_LINES]

    def ended(self, result: StageResult) -> None:
        """Take the stage's line away; print the last lines of a failed one."""
        with self._lock:
            _, lines = self._running.pop(result.name, (0.0, []))
        if result.outcome is Outcome.FAILED:
            for line in lines:
                self._console.print(Text(f"  {line}"))
        self._console.print(_outcome(result))

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 1))
        now = time.monotonic()
        with self._lock:
            for name, (since, lines) in self._running.items():
                last = Text(lines[-1] if lines else "", style="dim", no_wrap=True)
                last.truncate(max(10, self._console.width - len(name) - 14))
                table.add_row(self._spinner, name, f"{now - since:5.1f} s", last)
        return table


def _outcome(result: StageResult) -> Text:
    seconds = f" in {result.seconds:.1f} s" if result.seconds else ""
    text = Text.assemble(
        (result.name, "bold"),
        " ",
        (f"{result.outcome}{seconds}", STYLES[result.outcome]),
    )
    if not result.outcome.up_to_date:
        text.append(f": {result.message}")
    return text


@contextmanager
def shown(*, verbose: bool) -> Iterator[SummaryEvents]:
    """Show a run while it goes on, and a summary table when it has ended.

    Args:
        verbose: plain lines, with all output, in a terminal too.
    """
    console = Console()
    if not console.is_terminal or verbose:
        # Prefect's own log is the plain form.
        events = SummaryEvents()
        yield events
    else:
        events = live = LiveEvents(console)
        with _quiet_console(), Live(live, console=console, refresh_per_second=8):
            yield live
    if events.result:
        console.print(_summary(events.result))


def _summary(results: RunResult) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("stage", "outcome", "seconds"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for result in results:
        seconds = f"{result.seconds:.1f}" if result.seconds else ""
        outcome = Text(result.outcome, style=STYLES[result.outcome])
        table.add_row(result.name, outcome, seconds)
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
    # Not by a level, which Prefect sets again when the flow starts.
    for handler in handlers:
        handler.addFilter(_nothing)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_nothing)


def _nothing(_record: logging.LogRecord) -> bool:
    return False
