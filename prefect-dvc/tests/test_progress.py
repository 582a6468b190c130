"""Progress bars go to the UI; other lines, and bars the UI can't show, to the log."""

import logging

import pytest
from prefect.logging import get_logger
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_dvc.commands import Listener


@pytest.fixture
def lines():
    """The lines in the log of this program, outside of a run."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    log = get_logger("prefect_dvc")
    log.addHandler(handler)
    yield lines
    log.removeHandler(handler)


def test_lines_that_are_not_progress_go_to_the_log(lines):
    listener = Listener("train")
    listener("accuracy 42%")
    listener("done")
    assert lines == ["accuracy 42%", "done"]


def test_progress_goes_to_the_log_if_the_server_is_down(lines):
    listener = Listener("train")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        listener("train:  42%|####      | 42/100")
    assert lines == ["train:  42%|####      | 42/100"]
