"""Find the Prefect server that a run should report to."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

ANSWER_SECONDS = 1.0


@contextmanager
def found() -> Iterator[None]:
    """Use the server that `make ui` started, where the settings name none.

    Without one, Prefect starts a server of its own for the length of the run, which
    costs seconds, and keeps its records in the same database.
    """
    if get_current_settings().api.url is None and answers(local()):
        with temporary_settings({PREFECT_API_URL: local()}):
            yield
    else:
        yield


def local() -> str:
    """Return the address of the API that a server started here would have."""
    api = get_current_settings().server.api
    return f"http://{api.host}:{api.port}/api"


def address() -> str:
    """Return the address of the API that the settings name, or else the local one."""
    return get_current_settings().api.url or local()


def is_local(url: str) -> bool:
    """Return whether a server started here would have the address `url`."""
    here, there = urlsplit(local()), urlsplit(url)
    same_host = there.hostname in {here.hostname, "localhost", "127.0.0.1"}
    return same_host and here.port == there.port


def answers(url: str) -> bool:
    """Return whether a Prefect server with the API at `url` is up."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=ANSWER_SECONDS) as reply:  # noqa: S310  # http, or what the user's settings say
            return bool(reply.read() == b"true")
    except (urllib.error.URLError, OSError, ValueError):
        return False


def taken(url: str) -> bool:
    """Return whether any program listens where the API at `url` would be."""
    there = urlsplit(url)
    try:
        with socket.create_connection((there.hostname, there.port), ANSWER_SECONDS):
            return True
    except OSError:
        return False
