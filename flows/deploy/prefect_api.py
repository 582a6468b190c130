"""Where the Prefect server is, and what else may be there."""

import socket
from urllib.parse import urlsplit

from prefect.settings import get_current_settings

from prefect_dvc.server import ANSWER_SECONDS, answers, local_url

__all__ = ["address", "answers", "is_local", "taken"]


def address() -> str:
    """Return the URL of the API that the settings name, or else the local one."""
    return get_current_settings().api.url or local_url()


def is_local(url: str) -> bool:
    """Return whether a server started on this machine would have the URL `url`."""
    here, there = urlsplit(local_url()), urlsplit(url)
    same_host = there.hostname in {here.hostname, "localhost", "127.0.0.1"}
    return same_host and here.port == there.port


def taken(url: str) -> bool:
    """Return whether any program listens where the API at `url` would be."""
    there = urlsplit(url)
    try:
        with socket.create_connection((there.hostname, there.port), ANSWER_SECONDS):
            return True
    except OSError:
        return False
