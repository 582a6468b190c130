"""Fixtures: a Prefect server, and small checkouts of the project.

The server and the small DVC project come from the tests of prefect-dvc.
"""

import shutil
import signal
from pathlib import Path

import checkouts
import pytest
from servers import prefect_server
from small_project import built, processes, project

__all__ = ["built", "prefect_server", "processes", "project"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Background programs of a shell ignore Ctrl-C, and so do their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def small(tmp_path_factory, digits) -> Path:
    """The project itself, its data made small; nothing of it was run."""
    return checkouts.make(tmp_path_factory.mktemp("small"), digits)


@pytest.fixture(scope="session")
def pipeline_run(small, prefect_server, tmp_path_factory) -> Path:
    """A small checkout with two variants whose pipeline has run; don't change it."""
    return checkouts.make_pipeline_run(
        small, tmp_path_factory.mktemp("run"), prefect_server
    )


@pytest.fixture
def experimenting(pipeline_run, tmp_path) -> Path:
    """A copy of that checkout, in which a test runs experiments."""
    target = tmp_path / "project"
    shutil.copytree(pipeline_run, target, symlinks=True)
    return target
