"""Find the Prefect server that a run should report to."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

ANSWER_SECONDS = 1.0


@contextmanager
def found() -> Iterator[None]:
    """Use the server that `make ui` started, where the settings name none.

    Without one, Prefect starts a server of its own for the length of the run, which
    costs seconds, and keeps its records in the same database.
    """
    settings = get_current_settings()
    url = f"http://{settings.server.api.host}:{settings.server.api.port}/api"
    if settings.api.url is None and _answers(url):
        with temporary_settings({PREFECT_API_URL: url}):
            yield
    else:
        yield


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=ANSWER_SECONDS) as reply:  # noqa: S310  # http on this machine
            return bool(reply.read() == b"true")
    except (urllib.error.URLError, OSError, ValueError):
        return False
