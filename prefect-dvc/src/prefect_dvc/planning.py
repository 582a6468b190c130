"""Plan a run: what would run and why, without importing Prefect."""

from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

from prefect_dvc import history
from prefect_dvc.dvc_repo import DvcRepo
from prefect_dvc.options import RunOptions
from prefect_dvc.plan import Plan


def plan(
    folder: Path,
    options: RunOptions,
    *,
    wait: bool,
    pause: Callable[[float], object],
) -> Plan:
    """Return what a run of the project in `folder` would do; change nothing.

    Args:
        folder: of the project.
        options: of the run.
        wait: whether to wait while another DVC command is at work.
        pause: called with the seconds to sleep while waiting.

    Raises:
        ProjectBusy: another DVC command is at work, and `wait` is false.
        ProjectError: DVC refuses the project or a target.
    """
    with chdir(folder):
        repo = DvcRepo(folder, options, wait=wait, pause=pause)
        return repo.plan(history.read(repo.root))
