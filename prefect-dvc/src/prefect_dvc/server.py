"""Find the Prefect server that a run reports to."""

import functools
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

import httpx
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

ANSWER_SECONDS = 1.0
# Together about as long as Prefect's client retries a server that answered before.
RETRY_DELAY_SECONDS = (1, 2, 4, 8, 16, 32)

P = ParamSpec("P")


@contextmanager
def connected() -> Iterator[None]:
    """Use the server on this machine, if one is up and the settings name none.

    Without a server, Prefect starts a temporary one for the length of the run, which
    takes seconds; it keeps its records in the same database.
    """
    if get_current_settings().api.url is None and answers(local_url()):
        with temporary_settings({PREFECT_API_URL: local_url()}):
            yield
    else:
        yield


def local_url() -> str:
    """Return the URL that the API of a server on this machine has."""
    api = get_current_settings().server.api
    return f"http://{api.host}:{api.port}/api"


def answers(url: str) -> bool:
    """Return whether a Prefect server with the API at `url` is up."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=ANSWER_SECONDS) as reply:  # noqa: S310  # http, or what the user's settings say
            return bool(reply.read() == b"true")
    except (OSError, ValueError):
        return False


def retry_connection(act: Callable[P, None]) -> Callable[P, None]:
    """Decorate a function that calls the server: retry while the server is down.

    Prefect's clients retry too, but only after their first answer.
    """

    @functools.wraps(act)
    def retrying(*arguments: P.args, **options: P.kwargs) -> None:
        for seconds in RETRY_DELAY_SECONDS:
            try:
                return act(*arguments, **options)
            except httpx.ConnectError:
                time.sleep(seconds)
        return act(*arguments, **options)

    return retrying
