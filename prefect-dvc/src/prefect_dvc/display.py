"""Show a run in the terminal: live where it is one, plain lines elsewhere."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from prefect_dvc.events import Events
from prefect_dvc.results import Outcome, StageResult

TAIL_LINES = 20
STYLES = {
    Outcome.UNCHANGED: "dim",
    Outcome.RESTORED: "cyan",
    Outcome.RAN: "green",
    Outcome.FAILED: "bold red",
    Outcome.SKIPPED: "yellow",
}


class RecordedEvents(Events):
    """Keeps the outcomes, for the summary at the end."""

    def __init__(self) -> None:
        self.results: list[StageResult] = []
        self._lock = threading.Lock()

    def ended(self, result: StageResult) -> None:
        """Keep the outcome; a stage that was retried has several, the last counts."""
        with self._lock:
            self.results = [r for r in self.results if r.name != result.name]
            self.results.append(result)


class LiveEvents(RecordedEvents):
    """One line per running stage: name, elapsed time, last line printed."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._running: dict[str, tuple[float, list[str]]] = {}
        self._spinner = Spinner("dots")

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
        super().ended(result)
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
def shown(*, verbose: bool) -> Iterator[RecordedEvents]:
    """Show a run while it goes on, and a summary table when it has ended.

    Args:
        verbose: plain lines, with all output, in a terminal too.
    """
    console = Console()
    if not console.is_terminal or verbose:
        # Prefect's own log is the plain form.
        events = RecordedEvents()
        yield events
    else:
        events = live = LiveEvents(console)
        with _quiet_console(), Live(live, console=console, refresh_per_second=8):
            yield live
    if events.results:
        console.print(_summary(events.results))


def _summary(results: list[StageResult]) -> Table:
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
    """Keep Prefect's log off the terminal, where the display is; warnings stay."""
    handlers: list[tuple[Any, int]] = [
        (handler, handler.level)
        for name in ("prefect", *logging.root.manager.loggerDict)
        if name.split(".")[0] == "prefect"
        for handler in logging.getLogger(name).handlers
        if type(handler).__name__ == "PrefectConsoleHandler"
    ]
    for handler, _ in handlers:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for handler, level in handlers:
            handler.setLevel(level)
