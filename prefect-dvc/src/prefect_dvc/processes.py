"""Run the commands of stages as child processes that can be watched and stopped.

Every child leads a process group of its own. A watchdog process ends the groups that
are still there when this process dies by whatever means, `kill -9` included, so that
nobody goes on writing into a checkout that the next run takes for its own.
"""

import codecs
import contextvars
import os
import re
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

Child = subprocess.Popen[bytes] | forkserver.Forked

POLL_SECONDS = 0.02
# A child has this long to end by itself once asked, then it is killed. It removes what
# it was writing, which takes no time, but on a busy machine it must get its turn first.
GRACE_SECONDS = 3.0
# How long to listen to a grandchild that outlives the child.
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


# Becomes the command once told to; without a word, its teller is dead and so is it.
GATE = ["/bin/sh", "-c", 'read -r word && exec "$0" "$@" </dev/null']


class Stopped(Exception):
    """The run was told to stop."""


class TimedOut(Exception):
    """A command took longer than it may."""


class CommandFailed(Exception):
    """A command ended with another status than 0.

    Attributes:
        status: the exit status; negative: the signal that ended it.
        last_line: the last line that it printed, which is its reason.
    """

    def __init__(self, status: int, last_line: str) -> None:
        super().__init__(status, last_line)
        self.status = status
        self.last_line = last_line

    @property
    def reason(self) -> str:
        """Why it failed: its own last line, where it gave one."""
        how = (
            f"was ended by signal {-self.status}"
            if self.status < 0
            else f"ended with status {self.status}"
        )
        return self.last_line or f"The command {how} and gave no reason."


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Let `python` in a command mean the interpreter that runs the flow."""
    here = str(Path(sys.executable).parent)
    return {
        **inherited,
        "PATH": os.pathsep.join([here, inherited.get("PATH", os.defpath)]),
        # Lines reach the log when they are printed, not when a buffer is full.
        "PYTHONUNBUFFERED": "1",
    }


class Children:
    """Child processes of one flow run, at most one per core at a time."""

    def __init__(self, cores: int) -> None:
        self._cores = threading.BoundedSemaphore(cores)
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
        """Sleep, unless told to stop.

        Raises:
            Stopped: the run was told to stop.
        """
        if self._stop.wait(seconds):
            raise Stopped

    @contextmanager
    def core(self) -> Iterator[None]:
        """Hold one core, after waiting for it.

        Raises:
            Stopped: the run was told to stop before one was free.
        """
        while not self._cores.acquire(timeout=POLL_SECONDS):
            self.pause(0)
        try:
            yield
        finally:
            self._cores.release()

    def run(
        self,
        command: list[str],
        process: dict[str, Any],
        on_line: Callable[[str], None],
        timeout: float | None = None,
    ) -> None:
        """Run `command` to its end, giving its output to `on_line` line by line.

        Args:
            command: the argument vector.
            process: keyword arguments for `subprocess.Popen`.
            on_line: called in the caller's context, from another thread.
            timeout: seconds that the command may take.

        Raises:
            CommandFailed: it ended with another status than 0.
            TimedOut: it took longer than `timeout`.
            Stopped: the run was told to stop.
        """
        deadline = time.monotonic() + timeout if timeout else float("inf")
        self.pause(0)
        with self._started(command, process) as child:
            lines = _Lines(child, on_line)
            # Not child.wait(): a thread that blocks can be neither stopped nor timed.
            while (status := child.poll()) is None:
                self.pause(POLL_SECONDS)
                if time.monotonic() > deadline:
                    raise TimedOut(f"took longer than {timeout:g} s")
            lines.join()
        if status != 0:
            raise CommandFailed(status, lines.last)
        if lines.failure:
            raise lines.failure

    @contextmanager
    def _started(self, command: list[str], process: dict[str, Any]) -> Iterator[Child]:
        """Yield the running command; nothing of it is left afterwards."""
        child: Child
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
        self._tell_watchdog(f"+{child.pid}")
        try:
            if isinstance(child, subprocess.Popen):
                assert child.stdin
                with suppress(BrokenPipeError), child.stdin as gate:
                    gate.write(b"go\n")
            yield child
        finally:
            _end(child)
            self._tell_watchdog(f"-{child.pid}")

    def _tell_watchdog(self, line: str) -> None:
        assert self._watchdog.stdin
        self._watchdog.stdin.write(line + "\n")


class _Lines:
    """A thread that hands on the lines of a child's output as they come."""

    def __init__(self, child: Child, on_line: Callable[[str], None]) -> None:
        self.last = ""
        self.failure: Exception | None = None
        self._on_line = on_line
        # In the caller's context, or else Prefect would not know whose lines these are.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._pump, child.stdout), daemon=True
        )
        self._thread.start()

    def join(self) -> None:
        """Wait for the rest of the output.

        A grandchild that outlives the child may hold the pipe: it is not waited for.
        """
        self._thread.join(timeout=LISTEN_SECONDS)

    def _pump(self, output: IO[bytes] | Connection) -> None:
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        pending = ""
        with output:
            while chunk := os.read(output.fileno(), 65536):
                # A carriage return ends a line too: progress bars rewrite theirs.
                *lines, pending = re.split(r"[\r\n]+", pending + decode(chunk))
                for line in lines:
                    self._hand_on(line)
        self._hand_on(pending)

    def _hand_on(self, line: str) -> None:
        if line.strip():
            self.last = line.strip()
            try:
                self._on_line(line.rstrip())
            except Exception as failure:  # noqa: BLE001  # raised in the caller's thread
                # The pipe must be read on, or the child would wait for ever.
                self.failure = failure


def _end(child: Child) -> None:
    """End the child's process group: ask, wait, kill.

    The whole group is waited for: a shell dies at once, the step under it tidies up.
    """
    deadline = time.monotonic() + GRACE_SECONDS
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            child.poll()  # or it would be there, dead, until somebody asks
            os.killpg(child.pid, 0)
            time.sleep(POLL_SECONDS)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
