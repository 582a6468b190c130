"""Fixtures: a small DVC project, and one Prefect server per session."""

import signal

from servers import (
    alive,
    prefect_server,
    serving_prefect,
    wait_until,
)
from small_project import Project, built, processes, project

__all__ = [
    "Project",
    "alive",
    "built",
    "prefect_server",
    "processes",
    "project",
    "serving_prefect",
    "wait_until",
]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell makes background programs and their children ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
