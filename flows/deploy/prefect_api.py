"""Find the Prefect server that a run should report to."""

import functools
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec
from urllib.parse import urlsplit

import httpx
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

ANSWER_SECONDS = 1.0
# About as long as Prefect's own client asks a server again that has answered before.
PATIENCE_SECONDS = (1, 2, 4, 8, 16, 32)

P = ParamSpec("P")


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


def patient(act: Callable[P, None]) -> Callable[P, None]:
    """Let a function that asks the server go on when that was gone for a while.

    Prefect's clients do so themselves, but not before their first answer.
    """

    @functools.wraps(act)
    def patiently(*arguments: P.args, **options: P.kwargs) -> None:
        for seconds in PATIENCE_SECONDS:
            try:
                act(*arguments, **options)
            except httpx.ConnectError:
                time.sleep(seconds)
            else:
                return
        act(*arguments, **options)

    return patiently
