"""A sweep over settings, as a Prefect flow: `python -m flows.sweep`.

Writes the grid, variants x learning rates x batch sizes x seeds, to
`experiments/sweep/points.yaml` and runs that DVC project: trains every point, as many
at a time as there are cores, and writes `reports/sweep.csv` and `reports/sweep.svg`.
The last line is the command that runs the pipeline with the best settings.

Unchanged trainings do not run again, so an interrupted sweep continues where it
stopped; `dvc repro` in that folder does the same. Needs the data, which the pipeline
makes. The test set is not used. Exit status: 0 if table and figure are up to date now.
"""

import json
from typing import Any

from flows.command_line import ROOT, enter_project, parser, run

if __name__ == "__main__":
    enter_project()

import pandas as pd
from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.results import experiments
from flows.results.run_state import errors_as_states
from tasks.compare_settings import conclusion
from tasks.runtime.params import load
from tasks.training.settings import Train
from tasks.tuning import grid
from tasks.tuning.grid import Grid

# The UI shows an artifact's history by its key, so the key doesn't change.
TABLE_KEY = "sweep"


@flow(name="sweep")
@errors_as_states
def sweep(
    variants: list[str] | None = None,
    learning_rates: list[float] | None = None,
    batch_sizes: list[int] | None = None,
    seeds: int = grid.SEEDS,
) -> State[Any]:
    """Train every point of a grid, and say which settings did best.

    Args:
        variants: names of variants; all if none.
        learning_rates: each variant's own, times .1, .3, 1, 3 and 10, if none.
        batch_sizes: each variant's own if none.
        seeds: how many, from 0 up.
    """
    chosen = Grid.parse(
        {
            "variants": variants or [],
            "learning_rates": learning_rates or [],
            "batch_sizes": batch_sizes or [],
            "seeds": seeds,
        }
    )
    train = load("train", Train, ROOT / "params.yaml")
    grid.write(experiments.SWEEP / "points.yaml", chosen.points(train))
    experiments.run(experiments.SWEEP)
    table = pd.read_csv(ROOT / "reports" / "sweep.csv")
    summary = " ".join(conclusion(table, train).splitlines())
    create_table_artifact(
        json.loads(table.to_json(orient="records")),
        key=TABLE_KEY,
        description=summary,
    )
    return Completed(message=summary)


def main() -> None:
    """Run the flow from the command line."""
    command = parser("flows.sweep", __doc__)
    command.add_argument("--variants", nargs="+", metavar="NAME", help="default: all")
    command.add_argument("--learning-rates", nargs="+", type=float, metavar="RATE")
    command.add_argument("--batch-sizes", nargs="+", type=int, metavar="N")
    command.add_argument("--seeds", type=int, metavar="N", default=grid.SEEDS)
    run(sweep, **vars(command.parse_args()))


if __name__ == "__main__":
    main()
