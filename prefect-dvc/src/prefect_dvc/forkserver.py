"""Fork `python -m` commands from a process that has imported their heavy libraries.

A fresh interpreter takes seconds to import torch or scikit-learn. Here one process
imports the modules that the project names (`preload` in `[tool.prefect-dvc]`) once, in
the background, and each command is forked from it in milliseconds. A command is still a
process of its own, and imports the project's own modules as they are on disk.

The server is multiprocessing's forkserver. It ends with the process that started it. A
preloaded module must not touch a GPU or start threads when it is imported: neither
survives a fork.
"""

import atexit
import multiprocessing
import os
import re
import runpy
import shlex
import signal
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path

from prefect_dvc.errors import ProjectError

# Keeps the numeric libraries from starting threads while they are imported.
ONE_THREAD = {
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# A command of plain words: a shell would have nothing to interpret.
PLAIN = re.compile(r"python -m [\w.]+( [\w.,:/=@+-]+)*")
POLL_SECONDS = 0.02

_context = multiprocessing.get_context("forkserver")
# multiprocessing is not thread-safe: starting a child polls every other one, and of two
# threads that poll the same child, one reads its status and the other gets 255.
_one_at_a_time = threading.RLock()
# The server's event, after the first `start`.
_server: list[threading.Event] = []


def preloaded_modules(folder: Path) -> tuple[str, ...]:
    """Return `preload` of the nearest pyproject.toml with a `[tool.prefect-dvc]`.

    Raises:
        ProjectError: the section is invalid.
    """
    for parent in (folder.resolve(), *folder.resolve().parents):
        path = parent / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            tools = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
        except ValueError as error:
            raise ProjectError(f"{path} is not valid TOML: {error}.") from None
        match tools.get("prefect-dvc"):
            case None:
                continue
            case {"preload": [*names], **rest} if not rest and all(
                isinstance(name, str) for name in names
            ):
                return tuple(names)
            case {**rest} if not rest:
                return ()
        raise ProjectError(
            f"[tool.prefect-dvc] in {path} is invalid; it takes one key, `preload`, a "
            "list of module names."
        )
    return ()


def start(preload: tuple[str, ...]) -> threading.Event:
    """Start the server in the background; the event is set once it can be used.

    A process has one server, so the first call decides what is preloaded. The call sets
    environment variables for a moment.
    """
    with _one_at_a_time:
        return _server[0] if _server else _start(preload)


def _start(preload: tuple[str, ...]) -> threading.Event:
    _context.set_forkserver_preload(list(preload))
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    # Ctrl-C must not reach the server, which ignores it only after its imports. The
    # resource tracker is started before, because its start unblocks the signal.
    resource_tracker.ensure_running()
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
        atexit.register(_end_server)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    ready = threading.Event()
    _server.append(ready)
    threading.Thread(target=_wait_for_server, args=[ready], daemon=True).start()
    return ready


def can_run(command: str) -> bool:
    """Return whether `command` is plain `python -m ...`, and the server is ready."""
    return bool(PLAIN.fullmatch(command)) and bool(_server) and _server[0].is_set()


class Forked:
    """A running `python -m MODULE ARGUMENT...`, with the methods of `subprocess.Popen`.

    It leads a process group of its own, its output goes into one pipe, and `cwd` is
    first on its path.
    """

    def __init__(self, command: str, cwd: str, env: Mapping[str, str]) -> None:
        self.stdout, output = _context.Pipe(duplex=False)
        self._process = _context.Process(
            target=_become, args=[command, cwd, dict(env), output]
        )
        with _no_main():
            self._process.start()
        output.close()
        assert self._process.pid
        self.pid = self._process.pid
        # As the leader of its group, it can be ended with all that it started.
        with suppress(ProcessLookupError):
            while self.poll() is None and os.getpgid(self.pid) != self.pid:
                time.sleep(0.001)

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self.poll()

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        with _one_at_a_time:
            return self._process.exitcode

    def wait(self) -> int:
        """Wait for the end and return the exit status."""
        # join() would keep other threads from polling.
        while (status := self.poll()) is None:
            connection.wait([self._process.sentinel], POLL_SECONDS)
        return status


def _become(command: str, cwd: str, env: dict[str, str], output: Connection) -> None:
    """Run the command, in the forked process."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115  # until the process ends
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115  # as above
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    _, _, module, *arguments = shlex.split(command)
    sys.path[0] = cwd
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_server() -> None:
    """Kill the server: while it imports, it does not notice that this process ends."""
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # noqa: SLF001  # it has no public name
    if server is not None:
        os.kill(server, signal.SIGKILL)


def _wait_for_server(ready: threading.Event) -> None:
    """Fork a process that does nothing, which the server does after its imports."""
    probe = _context.Process(target=_nothing)
    with suppress(EOFError, OSError):  # the server was ended meanwhile
        with _no_main():
            probe.start()
        probe.join()
        ready.set()


def _nothing() -> None:
    """Run in a process that ends at once."""


@contextmanager
def _no_main() -> Iterator[None]:
    """Hide this program from multiprocessing.

    It would import our `__main__`, and with it all of Prefect, in every child.
    """
    main = sys.modules["__main__"]
    with _one_at_a_time:
        spec, file = main.__spec__, main.__dict__.pop("__file__", None)
        main.__spec__ = None
        try:
            yield
        finally:
            main.__spec__ = spec
            if file is not None:
                main.__file__ = file
