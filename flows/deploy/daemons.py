"""Background programs of a checkout, at most one of each name.

A program holds the kernel's lock on `.schedule/<name>.json` for as long as it lives.
The lock, not the PID, says whether it runs: it ends with a crash, a `kill -9` or a
reboot, and a PID may belong to another process by then.

`prefect server start --background` is not used: it writes its log to a pipe that
nothing reads, ends with the terminal, and `prefect server stop` trusts the PID.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from prefect_dvc import try_lock

POLL_SECONDS = 0.05
T = TypeVar("T")


class Unready(Exception):
    """A program or schedule can't be started or stopped; the message is a sentence."""


class Record(NamedTuple):
    """A running program: its PID, and the folder and environment it started from."""

    pid: int
    folder: str
    environment: str


class Background:
    """The program `name` of the checkout at `root`."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self.log = root / ".schedule" / f"{name}.log"
        self._file = root / ".schedule" / f"{name}.json"

    def running(self) -> Record | None:
        """Return the record of the program, or None if it doesn't run."""
        try:
            with self._file.open("r+", encoding="utf-8") as file:
                return None if try_lock(file) else Record(**json.load(file))
        except FileNotFoundError:
            return None

    def outdated(self) -> bool:
        """Return whether the program runs from a folder or environment that is gone."""
        record = self.running()
        return record is not None and record[1:] != (str(self.root), _environment())

    def start(self, command: list[str], environment: Mapping[str, str]) -> None:
        """Start the program in a session of its own; write its output to its log."""
        self.log.parent.mkdir(exist_ok=True)
        with self._file.open("a+", encoding="utf-8") as file:
            if not try_lock(file):
                raise Unready(f"A {self.name} runs here already.")
            if self.log.exists():
                self.log.replace(self.log.with_suffix(".log.1"))
            with self.log.open("wb") as log:
                process = subprocess.Popen(  # noqa: S603  # our own command
                    command,
                    cwd=self.root,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    # It inherits the lock; its own children don't.
                    pass_fds=[file.fileno()],
                )
            file.truncate(0)
            record = Record(process.pid, str(self.root), _environment())
            json.dump(record._asdict(), file)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until the program is ready; if it fails, report its last line."""
        poll(lambda: ready() or not self.running(), seconds)
        if not ready():
            late = f"was not ready after {seconds:g} s"
            fault = late if self.running() else "ended at once"
            raise Unready(f"The {self.name} {fault}: {self._last_line()}")

    def stop(self, seconds: float) -> bool:
        """End the program, by SIGKILL if SIGTERM does not; return whether it ran."""
        ran = self.running() is not None
        for number in (signal.SIGTERM, signal.SIGKILL):
            # The process that holds the lock has the recorded PID.
            if record := self.running():
                with suppress(ProcessLookupError):
                    os.kill(record.pid, number)
            poll(lambda: not self.running(), seconds)
        return ran

    def _last_line(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        printed = [line.strip() for line in lines if line.strip()]
        return f"{printed[-1] if printed else 'its log is empty.'} (See {self.log}.)"


def poll(condition: Callable[[], T], seconds: float) -> T:
    """Wait until `condition` is true, for `seconds` at most; return its last value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return value


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Wait until no other command starts or stops programs of this checkout."""
    folder = root / ".schedule"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _environment() -> str:
    """Return a text that changes when the virtual environment is made again."""
    config = Path(sys.prefix, "pyvenv.cfg")
    return f"{sys.prefix} {config.stat().st_mtime_ns if config.exists() else ''}"
