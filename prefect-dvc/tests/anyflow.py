"""A flow for any DVC project: `python anyflow.py ROOT [--no-wait] [TARGET ...]`.

It returns the states of all stages, which the tests look at.
"""

import argparse
import sys
from pathlib import Path

from prefect import flow
from prefect.states import Failed

from prefect_dvc import DvcProject, ProjectError


@flow
def anyflow(
    root: Path,
    targets: list[str],
    *,
    force: bool = False,
    wait: bool = True,
    jobs: int | None = None,
):
    try:
        project = DvcProject(root, wait=wait, jobs=jobs)
        with project.open(targets, force=force, keep_going=True) as run:
            run.submit_all()
            run.wait()
            return [run[name].state for name in run.names]
    except ProjectError as error:
        return Failed(message=str(error))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--no-wait", dest="wait", action="store_false")
    state = anyflow(**vars(parser.parse_args()), return_state=True)
    sys.exit(0 if state.is_completed() else 1)
