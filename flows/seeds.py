"""How much the seed matters, as a Prefect flow: `python -m flows.seeds [--seeds N]`.

Runs the DVC project `experiments/seeds`: trains every variant of params.yaml with every
seed of `seeds.yaml`, as many at a time as there are cores, and writes means, standard
deviations and paired differences to `reports/seeds.json`. Unchanged trainings do not
run again, so an interrupted run continues where it stopped. `dvc repro` in that folder
does the same. Needs the data and the baseline, which the pipeline makes.

Exit status: 0 if the report is up to date now.
"""

import json
from typing import Any

from flows.command_line import ROOT, enter_project, parser, run

if __name__ == "__main__":
    enter_project()

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.results import experiments
from flows.results.run_state import errors_as_states
from tasks.runtime import files
from tasks.runtime.params import BadInput

# The UI shows an artifact's history by its key, so the key doesn't change.
TABLE_KEY = "seeds"
CAPTION = "Accuracy of each model: mean ± standard deviation over the seeds."
SEEDS_FILE = """\
# Every variant of params.yaml is trained with each of these seeds.
seeds: {}
"""


@flow(name="seeds")
@errors_as_states
def seeds(number: int | None = None) -> State[Any]:
    """Train every variant with every seed, and write the report.

    Args:
        number: replaces the seeds in `seeds.yaml` by 0 to `number` - 1.
    """
    if number is not None:
        if number < 1:
            raise BadInput(f"The number of seeds is {number}; give at least 1.")
        content = SEEDS_FILE.format(list(range(number)))
        files.write_text(experiments.SEEDS / "seeds.yaml", content)
    result = experiments.run(experiments.SEEDS)
    report = json.loads((ROOT / "reports" / "seeds.json").read_text("utf-8"))
    create_table_artifact(table(report), key=TABLE_KEY, description=CAPTION)
    return Completed(message=result.summary)


def table(report: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row for each model, as the Prefect UI shows it."""
    return [
        {
            "model": name,
            "trainings": str(figures["n"]),
            "validation": accuracy(**figures["valid"]),
            "test": accuracy(**figures["test"]),
        }
        for name, figures in report["models"].items()
    ]


def accuracy(mean: float, sd: float | None) -> str:
    """Return mean and standard deviation; the mean alone after a single training."""
    return f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}"


def main() -> None:
    """Run the flow from the command line."""
    command = parser("flows.seeds", __doc__)
    command.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="how many, from 0 up; default: those in experiments/seeds/seeds.yaml",
    )
    run(seeds, number=command.parse_args().seeds)


if __name__ == "__main__":
    main()
