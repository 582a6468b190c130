"""Programs in the background: at most one of each name, known by a lock, not by a pid.

A program holds the kernel's lock on `.schedule/<name>.json` for as long as it lives, so
that what the file says is true: after a crash, a `kill -9` or a reboot nobody holds it.
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
from typing import IO, NamedTuple

POLL_SECONDS = 0.05


class Unready(Exception):
    """Something could not be started or stopped; the message is one sentence."""


class Noted(NamedTuple):
    """What is known of a program that runs: its process, and of what it was started."""

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

    def running(self) -> bool:
        """Return whether the program runs."""
        return self._noted() is not None

    def outdated(self) -> bool:
        """Return whether it runs, but of a place or an environment that is gone.

        Then its files are other ones than those it began with, or none.
        """
        noted = self._noted()
        return noted is not None and noted[1:] != (str(self.root), _environment())

    def start(self, command: list[str], environment: Mapping[str, str]) -> None:
        """Start the program in a session of its own, its output in its log.

        Raises:
            Unready: it runs already.
        """
        self.log.parent.mkdir(exist_ok=True)
        with self._file.open("a+", encoding="utf-8") as file:
            if not _try_lock(file):
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
                    # It holds the lock from here on; no child of its own inherits it.
                    pass_fds=[file.fileno()],
                )
            file.truncate(0)
            noted = Noted(process.pid, str(self.root), _environment())
            json.dump(noted._asdict(), file)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until the program is ready.

        Raises:
            Unready: it ended, or was not ready in time; with its log's last line.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running():
                raise Unready(f"The {self.name} ended at once: {self._last_words()}")
            if time.monotonic() > deadline:
                raise Unready(
                    f"The {self.name} was not ready after {seconds:g} s: "
                    f"{self._last_words()}"
                )
            time.sleep(POLL_SECONDS)

    def stop(self, seconds: float) -> bool:
        """End the program: ask, wait, kill. Return whether it ran."""
        ran = False
        for attempt in (signal.SIGTERM, signal.SIGKILL):
            # Whoever holds the lock is the process of this number.
            if (noted := self._noted()) is None:
                return ran
            ran = True
            with suppress(ProcessLookupError):
                os.kill(noted.pid, attempt)
            deadline = time.monotonic() + seconds
            while self.running() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        return ran

    def _noted(self) -> Noted | None:
        """Return what is known of the program, if it runs."""
        try:
            with self._file.open("r+", encoding="utf-8") as file:
                return None if _try_lock(file) else Noted(**json.load(file))
        except FileNotFoundError:
            return None

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f"{said[-1] if said else 'it said nothing.'} (See {self.log}.)"


def _environment() -> str:
    """Return what changes whenever the virtual environment is made anew."""
    made = Path(sys.prefix, "pyvenv.cfg")
    return f"{sys.prefix} {made.stat().st_mtime_ns if made.exists() else ''}"


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Wait until no other command starts or stops programs of this checkout."""
    folder = root / ".schedule"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _try_lock(file: IO[str]) -> bool:
    """Lock an open file for this process; return whether it was free."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
