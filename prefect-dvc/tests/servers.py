"""A real Prefect server for tests, and the small waits that tests need."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from prefect.logging.handlers import APILogHandler
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    temporary_settings,
)


@contextmanager
def serving_prefect(home: Path, **settings: str) -> Iterator[dict[str, str]]:
    """Run a Prefect server; yield the environment for programs that use it."""
    environment = server_environment(home)
    server = start_server(environment | settings)
    try:
        yield environment
    finally:
        stop_server(server)


def server_environment(home: Path) -> dict[str, str]:
    """Return the environment of a server with this home, and of its clients."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    return os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }


def start_server(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a Prefect server and wait until it answers."""
    own = {k: v for k, v in environment.items() if k != "PREFECT_API_URL"}
    with (Path(environment["PREFECT_HOME"]) / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start"],
            env=own,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"{environment['PREFECT_API_URL']}/health"
        wait_until(lambda: answers(url), seconds=240)  # on a busy machine
    except BaseException:
        stop_server(server)
        raise
    return server


def stop_server(server: subprocess.Popen[bytes]) -> None:
    """Stop a server; kill it if it does not end."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        server.wait(timeout=10)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The session's only Prefect server; yields the environment for its clients."""
    home = tmp_path_factory.mktemp("prefect")
    with (
        serving_prefect(home) as environment,
        temporary_settings(
            {
                PREFECT_API_URL: environment["PREFECT_API_URL"],
                PREFECT_HOME: home,
                # A flow waits for this thread at its end, up to a second.
                PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            }
        ),
    ):
        yield environment
        # A thread sends the log, while the server is still up.
        APILogHandler().flush()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds; fail if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"this did not happen within {seconds} s"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
