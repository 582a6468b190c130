"""A flow for any dvc.yaml: `python anyflow.py ROOT [--no-wait] [TARGET ...]`.

The cases that both engines must pass are about the graph, not about digits, so they run
on small projects of shell commands, through the same code as the real flow.
"""

import argparse
import sys
from pathlib import Path

from prefect import flow
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner

from prefect_dvc import stage_tasks
from prefect_dvc.dvc_repo import LedgerError


@flow(task_runner=ThreadPoolTaskRunner(max_workers=16))
def anyflow(root: Path, targets: list[str], *, force: bool = False, wait: bool = True):
    try:
        with stage_tasks.opened(root, targets, force=force, wait=wait) as (
            run,
            everything,
        ):
            futures = {}
            for name, stage in everything.items():
                after = [futures[up] for up in sorted(stage.after)]
                futures[name] = run.step(name, *after)
            return run.finish()
    except LedgerError as error:
        return Failed(message=str(error))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--no-wait", dest="wait", action="store_false")
    state = anyflow(**vars(parser.parse_args()), return_state=True)
    sys.exit(0 if state.is_completed() else 1)
