"""How much the seed matters, as a Prefect flow: `python -m flows.seeds [--seeds N]`.

Trains every variant of params.yaml with the seeds 0 to N - 1, each in a process of its
own with one thread, as many at a time as there are cores, and writes their means,
standard deviations and paired differences into `reports/seeds.json`. What was trained
before, by the same code on the same data, ends in the state Cached, so a run that was
cut off goes on where it was.

It needs what the pipeline makes, and takes no lock on the checkout: it only reads. If
the data, the settings or the code change meanwhile, it fails and writes nothing.
Exit status: 0 if the report is up to date now.
"""
# ruff: noqa: E402  # it changes to the project's folder before Prefect is imported

import argparse
import functools
import json
import os
from contextlib import chdir
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    from prefect_dvc import forkserver

    # Prefect reads this project's settings from the current directory, when imported.
    os.chdir(ROOT)
    forkserver.warm_up()

from prefect import Task, flow
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from prefect_dvc import command_line, commands, forkserver
from prefect_dvc.processes import (
    Children,
    CommandFailed,
    Stopped,
    available_cores,
)
from tasks import repeats
from tasks.runtime.params import BadInput

# The UI shows an artifact's history by its key, so the key doesn't change.
TABLE_KEY = "seeds"
TABLE_SAYS = "Accuracy of each model: mean ± standard deviation over the seeds."
# A first training of its own would import for as long as the server of forks does.
WARM_UP_SECONDS = 15
# The files in .checkpoints/seeds say what is done; Prefect's cache is not asked.
DONE_IS_WHAT_IS_KEPT: Any = {"cache_policy": NO_CACHE, "persist_result": False}


class Trainings:
    """The trainings of one flow run."""

    def __init__(self, children: Children, marks: dict[str, str]) -> None:
        self._children = children
        self._marks = marks
        self._futures: list[PrefectFuture[Any]] = []
        # Here, and not in a task: there may be only one to start the server of forks.
        self._forks_are_ready = forkserver.warm_up()

    def submit(self, number: int) -> None:
        """Submit a task for each variant and seed, and one for the report."""
        each = [(name, seed) for seed in range(number) for name in self._marks]
        variants, seeds = (list(column) for column in zip(*each, strict=True))
        retrain = Task(
            self._retrain,
            name="retrain",
            task_run_name="{variant}, seed {seed}",
            description="Train a variant with a seed, in a process of its own.",
            **DONE_IS_WHAT_IS_KEPT,
        )
        self._futures += retrain.map(variants, seeds)
        spread = Task(
            self._spread,
            name="spread",
            task_run_name="spread",
            description="Write means, deviations and paired differences.",
            **DONE_IS_WHAT_IS_KEPT,
        )
        self._futures.append(
            spread.submit(number, wait_for=list(self._futures), return_state=False)
        )

    def finish(self) -> list[State[Any]]:
        """Wait for all tasks and return their states, which decide the flow's."""
        wait(self._futures)
        return [future.state for future in self._futures]

    def _retrain(self, variant: str, seed: int) -> State[Any]:
        """Be the body of a training's task."""
        if path := self._kept(variant, seed):
            return Completed(name="Cached", message=f"{path} is from an earlier run.")
        self._forks_are_ready.wait(WARM_UP_SECONDS)
        return self._run(f"python -m tasks.retrain {variant} {seed}")

    def _spread(self, number: int) -> State[Any]:
        """Be the body of the report's task."""
        return self._run(f"python -m tasks.spread {number}")

    def _kept(self, variant: str, seed: int) -> Path | None:
        """Return the file with the result of a training, if there is one."""
        mark = self._marks[variant]
        kept = repeats.load(variant, seed, mark)
        return repeats.path(variant, seed, mark) if kept else None

    def _run(self, command: str) -> State[Any]:
        say = functools.partial(get_run_logger().info, "%s")
        words = ["/bin/sh", "-c", command]
        try:
            # Fifty progress bars would tell nothing.
            commands.run(self._children, words, ROOT, say, TQDM_DISABLE="1")
        except (CommandFailed, Stopped) as failure:
            return commands.failed(failure)
        return Completed(message=f"`{command}` ran.")


@flow(
    name="seeds",
    task_runner=ThreadPoolTaskRunner[Any](max_workers=available_cores()),  # type: ignore[arg-type]  # Prefect's own runner, but its parameter is invariant
)
def seeds(number: int = 10) -> list[State[Any]] | State[Any]:
    """Train every variant with the seeds 0 to `number` - 1, and write the report."""
    if number < 1:
        return Failed(message=f"The number of seeds is {number}; give one from 1 up.")
    with chdir(ROOT), Children(available_cores()) as children:
        try:
            trainings = Trainings(children, repeats.marks())
        except BadInput as error:
            return Failed(message=str(error))
        try:
            trainings.submit(number)
            states = trainings.finish()
        finally:
            # Nobody of ours writes any more when this flow has ended.
            children.stop()
            trainings.finish()
    if all(state.is_completed() for state in states):
        rows = table(json.loads((ROOT / "reports/seeds.json").read_text("utf-8")))
        create_table_artifact(rows, key=TABLE_KEY, description=TABLE_SAYS)
    return states


def table(report: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row a model, as the Prefect UI shows it."""
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
    """Return mean and deviation; the mean alone where one training has none."""
    return f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}"


def main() -> None:
    """Run the flow from the command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.seeds", description=__doc__)
    parser.add_argument(
        "--seeds", type=int, default=10, metavar="N", help="how many; 10 if not said"
    )
    arguments = parser.parse_args()
    command_line.run(seeds, number=arguments.seeds)


if __name__ == "__main__":
    main()
