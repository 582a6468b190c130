"""Run an experiment in the current flow run.

An experiment is a DVC project of its own in a folder of `experiments/`: see the README
there. Its stages become tasks as those of the pipeline do.
"""

from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State

from prefect_dvc import run_state
from prefect_dvc.stage_tasks import opened
from tasks.runtime.params import BadInput

ROOT = Path(__file__).resolve().parent.parent
SEEDS = ROOT / "experiments" / "seeds"
SWEEP = ROOT / "experiments" / "sweep"
# Tasks wait in a thread each until their turn comes; cores are shared out elsewhere.
MOST_TASKS = 64


def run(folder: Path) -> State[Any]:
    """Bring the experiment in `folder` up to date and return how that ended.

    Raises:
        BadInput: the pipeline has not run yet.
        LedgerError: DVC refuses the project.
    """
    if not (folder / "data" / "normalized").is_dir():
        raise BadInput(
            "data/normalized is missing; run the pipeline first: `make run` or "
            "`dvc repro`."
        )
    with opened(folder, [], force=False, wait=True) as (run, stages):
        futures: dict[str, Any] = {}
        for name, stage in stages.items():
            futures[name] = run.step(name, *(futures[each] for each in stage.after))
        return run_state.of_stages(run.finish())
