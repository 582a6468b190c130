"""Plan a run without Prefect, which takes longer to import than a plan to make."""

import time
from contextlib import chdir
from pathlib import Path

from prefect_dvc import history
from prefect_dvc.dvc_repo import DvcRepo
from prefect_dvc.errors import ProjectError
from prefect_dvc.options import RunOptions
from prefect_dvc.plan import Plan


def plan(folder: Path | str, options: RunOptions, *, wait: bool = True) -> Plan:
    """Return what a run of the project in `folder` would do; change nothing.

    Raises:
        ProjectBusy: another DVC command is at work, and `wait` is false.
        ProjectError: DVC refuses the project or a target.
    """
    root = project_root(Path(folder))
    with chdir(root):
        repo = DvcRepo(root, options, wait=wait, pause=time.sleep)
        return repo.plan(history.read(repo.root))


def project_root(folder: Path) -> Path:
    """Return the absolute path of a project's folder.

    Raises:
        ProjectError: it does not exist.
    """
    root = folder.resolve()
    if not root.is_dir():
        raise ProjectError(f"{folder} is not a folder.")
    return root
