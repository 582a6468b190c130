"""The log of the current flow or task run, or of this program outside of one."""

import logging
from typing import Any

from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger

Log = logging.Logger | logging.LoggerAdapter[Any]


def run_log() -> Log:
    """Return the run's logger; outside of a run, one that only the console shows."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("prefect_dvc")
