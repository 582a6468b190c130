"""Run an experiment in the current flow run.

An experiment is a DVC project of its own in a folder of `experiments/`: see the README
there. Each of its stages becomes a task, as in the pipeline.
"""

from pathlib import Path

from prefect_dvc import DvcProject, RunResult
from tasks.runtime.params import BadInput, load
from tasks.training.settings import Train

ROOT = Path(__file__).resolve().parents[2]
SEEDS = ROOT / "experiments" / "seeds"
SWEEP = ROOT / "experiments" / "sweep"


def run(folder: Path) -> RunResult:
    """Bring the experiment in `folder` up to date.

    Raises:
        BadInput: the pipeline has not run yet, or params.yaml is invalid.
        PrefectDvcError: a stage failed, or DVC refuses the project.
    """
    if not (folder / "data" / "normalized").is_dir():
        raise BadInput(
            "data/normalized is missing; run the pipeline first: `make run` or "
            "`dvc repro`."
        )
    # The names of the variants become words of shell commands.
    load("train", Train, ROOT / "params.yaml")
    return DvcProject(folder).run(keep_going=True)
