"""Run an experiment, a DVC project in a folder of `experiments/`, in the current flow.

Each of its stages becomes a task, as in the pipeline; see the README there.
"""

from pathlib import Path

from flows.command_line import ROOT
from prefect_dvc import DvcProject, RunResult
from tasks.runtime.params import BadInput, load
from tasks.training.settings import Train

SEEDS = ROOT / "experiments" / "seeds"
SWEEP = ROOT / "experiments" / "sweep"


def run(folder: Path) -> RunResult:
    """Bring the experiment in `folder` up to date."""
    if not (folder / "data" / "normalized").is_dir():
        raise BadInput(
            "data/normalized is missing; run the pipeline first: `make run` or "
            "`dvc repro`."
        )
    # Names of variants become words of shell commands, so they are validated first.
    load("train", Train, ROOT / "params.yaml")
    return DvcProject(folder).run(keep_going=True)
