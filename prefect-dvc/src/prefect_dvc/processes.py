"""Run commands as child processes that can be stopped, and read their output.

Every child leads a process group of its own. If this process dies, even by `kill -9`, a
watchdog process ends the groups that are left: an orphan would go on writing into a
project while the next run works there.
"""

import contextvars
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Self

from prefect_dvc import forkserver
from prefect_dvc.errors import CommandFailed, Stopped, TimedOut

Child = subprocess.Popen[bytes] | forkserver.Forked

POLL_SECONDS = 0.02
# Between SIGTERM and SIGKILL. A child only removes the file that it was writing, but on
# a busy machine it must be scheduled first.
GRACE_SECONDS = 3.0
# How long to read the output of a grandchild that outlives the child.
LISTEN_SECONDS = 1.0

# Reads "+group" and "-group" until its input ends, then kills the groups left over.
WATCHDOG = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""
# Waits for a line, then becomes the command; exits if this process died first.
GATE = ["/bin/sh", "-c", 'read -r word && exec "$0" "$@" </dev/null']


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which `python` is the interpreter that runs the flow."""
    here = str(Path(sys.executable).parent)
    return {
        **inherited,
        "PATH": os.pathsep.join([here, inherited.get("PATH", os.defpath)]),
        # Lines reach the log when they are printed, not when a buffer is full.
        "PYTHONUNBUFFERED": "1",
    }


class Processes:
    """The child processes of one run."""

    def __init__(self) -> None:
        # Modules that commands are forked with; without any, nothing is forked.
        self.preload: tuple[str, ...] = ()
        self._stop = threading.Event()
        self._watchdog = subprocess.Popen(  # noqa: S603  # a constant program
            [sys.executable, "-S", "-E", "-c", WATCHDOG],
            stdin=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,  # a signal to our group must not reach it
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._watchdog.communicate()

    def stop(self) -> None:
        """Make every command, running or waiting, raise `Stopped`."""
        self._stop.set()

    def pause(self, seconds: float) -> None:
        """Sleep; raise `Stopped` if the run is stopped."""
        if self._stop.wait(seconds):
            raise Stopped

    def run(
        self,
        command: list[str],
        process: dict[str, Any],
        on_line: Callable[[str], None],
        timeout: float | None = None,
    ) -> None:
        """Run `command` to its end, and pass its output to `on_line` line by line.

        Args:
            command: the argument vector.
            process: keyword arguments for `subprocess.Popen`.
            on_line: called in the caller's context, from another thread.
            timeout: seconds that the command may take.

        Raises `CommandFailed`, `TimedOut`, or `Stopped`.
        """
        deadline = time.monotonic() + timeout if timeout else float("inf")
        self.pause(0)
        with self._started(command, process) as child:
            lines = _Lines(child, on_line)
            # A thread that blocks in child.wait() could be neither stopped nor timed.
            while (status := child.poll()) is None:
                self.pause(POLL_SECONDS)
                if time.monotonic() > deadline:
                    raise TimedOut(f"took longer than {timeout:g} s")
            lines.wait()
        if status != 0:
            raise CommandFailed(status, lines.last)
        if lines.failure:
            raise lines.failure

    @contextmanager
    def _started(self, command: list[str], process: dict[str, Any]) -> Iterator[Child]:
        """Yield the running command; its process group is gone afterwards."""
        child: Child
        if self.preload:
            forkserver.start(self.preload)
        if forkserver.can_run(command[-1]):
            child = forkserver.Forked(command[-1], process["cwd"], process["env"])
        else:
            child = subprocess.Popen(  # noqa: S603  # the stage's own command
                [*GATE, *command],
                **process,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._send_to_watchdog(f"+{child.pid}")
        try:
            if isinstance(child, subprocess.Popen):
                assert child.stdin
                with suppress(BrokenPipeError), child.stdin as gate:
                    gate.write(b"go\n")
            yield child
        finally:
            _end(child)
            self._send_to_watchdog(f"-{child.pid}")

    def _send_to_watchdog(self, line: str) -> None:
        assert self._watchdog.stdin
        self._watchdog.stdin.write(line + "\n")


class _Lines:
    """A thread that calls `on_line` with the lines of a child's output as they come."""

    def __init__(self, child: Child, on_line: Callable[[str], None]) -> None:
        self.last = ""
        self.failure: Exception | None = None
        self._on_line = on_line
        # In the caller's context: Prefect's logger finds the task run there.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._read, child.stdout), daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait for the rest of the output, but not for a grandchild with the pipe."""
        self._thread.join(timeout=LISTEN_SECONDS)

    def _read(self, output: IO[bytes] | Connection) -> None:
        # A carriage return ends a line too: progress bars rewrite theirs.
        with (
            output,
            os.fdopen(
                output.fileno(), encoding="utf-8", errors="replace", closefd=False
            ) as lines,
        ):
            for line in lines:
                self._handle(line)

    def _handle(self, line: str) -> None:
        if line.strip():
            self.last = line.strip()
            try:
                self._on_line(line.rstrip())
            except Exception as failure:  # noqa: BLE001  # raised in the caller's thread
                # Continue to read: a full pipe would block the child.
                self.failure = failure


def _end(child: Child) -> None:
    """End the child's process group: ask, wait, kill.

    Waits for the whole group: a shell dies at once, its child still cleans up.
    """
    deadline = time.monotonic() + GRACE_SECONDS
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            child.poll()  # a dead child stays in the group until its status is read
            os.killpg(child.pid, 0)
            time.sleep(POLL_SECONDS)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
