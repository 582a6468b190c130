"""A sweep over settings, as a Prefect flow: `python -m flows.sweep`.

Trains variants x learning rates x batch sizes x seeds, each training in a process of
its own with one thread, as many at a time as there are cores; with `--dask` on the
workers of a Dask cluster (the extra `dask`). Ends with `reports/sweep.csv`, with
`reports/sweep.svg`, and with the command that runs the pipeline with the best settings.

What was trained before, by the same code on the same data, ends in the state Cached, so
a sweep that was cut off, even by `kill -9`, goes on where it was. It needs what the
pipeline makes, takes no lock on the checkout, and does not look at the test set.
Exit status: 0 if table and figure are up to date now.
"""
# ruff: noqa: E402  # it changes to the project's folder before Prefect is imported

import argparse
import csv
import functools
import os
import shlex
from contextlib import chdir, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    from prefect_dvc import forkserver

    # Prefect reads this project's settings from the current directory, when imported.
    os.chdir(ROOT)
    forkserver.warm_up()

from prefect import Flow, Task, flow
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from prefect_dvc import command_line, commands
from prefect_dvc.processes import (
    Children,
    CommandFailed,
    Stopped,
    available_cores,
)
from tasks import grids, repeats
from tasks.grids import Grid, Point
from tasks.runtime.params import BadInput

# The UI shows an artifact's history by its key, so the key doesn't change.
TABLE_KEY = "sweep"
# The files in .checkpoints/seeds say what is done; Prefect's cache is not asked.
DONE_IS_WHAT_IS_KEPT: Any = {"cache_policy": NO_CACHE, "persist_result": False}


@flow(
    name="sweep",
    task_runner=ThreadPoolTaskRunner[Any](max_workers=available_cores()),  # type: ignore[arg-type]  # Prefect's own runner, but its parameter is invariant
)
def sweep(
    variants: list[str] | None = None,
    learning_rates: list[float] | None = None,
    batch_sizes: list[int] | None = None,
    seeds: int = grids.SEEDS,
    *,
    elsewhere: bool = False,
) -> list[State[Any]] | State[Any]:
    """Train every point of a grid, and say which settings did best.

    Args:
        variants: names of variants; all if none.
        learning_rates: each variant's own, times .1, .3, 1, 3 and 10, if none.
        batch_sizes: each variant's own if none.
        seeds: how many, from 0 up.
        elsewhere: the tasks run in other processes than the flow.
    """
    asked = {
        "variants": variants or [],
        "learning_rates": learning_rates or [],
        "batch_sizes": batch_sizes or [],
        "seeds": seeds,
    }
    with chdir(ROOT), Children(available_cores()) as children:
        try:
            grid = Grid.of(asked)
            marks = repeats.marks_of(grid.points())
        except BadInput as error:
            return Failed(message=str(error))
        futures: list[PrefectFuture[Any]] = []
        try:
            futures += _submit(grid, marks, ROOT, None if elsewhere else children)
            wait(futures)
        finally:
            # Nobody of ours writes any more when this flow has ended.
            children.stop()
            wait(futures)
        states = [future.state for future in futures]
        if all(state.is_completed() for state in states):
            winner = states[-1].message
            create_table_artifact(table(), key=TABLE_KEY, description=winner)
            return Completed(message=winner)
        return states


def _submit(
    grid: Grid, marks: dict[Point, str], root: Path, children: Children | None
) -> list[PrefectFuture[Any]]:
    """Submit a task for each training, and one for the table."""
    train = Task(
        functools.partial(_train, root, children),
        name="retrain",
        task_run_name="{name}",
        description="Train a variant with these settings, in a process of its own.",
        **DONE_IS_WHAT_IS_KEPT,
    )
    futures: list[PrefectFuture[Any]] = [
        train.submit(str(point), tuple(point), mark) for point, mark in marks.items()
    ]
    compare = Task(
        functools.partial(_run, root, children),
        name="sweep",
        task_run_name="sweep",
        description="Write the table and the figure, and name the best settings.",
        **DONE_IS_WHAT_IS_KEPT,
    )
    words = [f"--seeds={grid.seeds}"]
    for key in ("variants", "learning_rates", "batch_sizes"):
        if values := getattr(grid, key):
            words += [f"--{key.replace('_', '-')}", *map(str, values)]
    return [*futures, compare.submit(["tasks.sweep", *words], wait_for=futures)]


def _train(
    root: Path,
    children: Children | None,
    name: str,  # noqa: ARG001  # of the task run
    point: tuple[str, float, int, int],
    mark: str,
) -> State[Any]:
    """Be the body of a training's task."""
    variant, rate, size, seed = point
    with chdir(root):
        if repeats.load(variant, seed, mark):
            path = repeats.path(variant, seed, mark)
            return Completed(name="Cached", message=f"{path} is from an earlier run.")
    options = [f"--learning-rate={rate!r}", f"--batch-size={size}"]
    return _run(root, children, ["tasks.retrain", variant, str(seed), *options])


def _run(root: Path, children: Children | None, words: list[str]) -> State[Any]:
    """Run a step as a child of `children`, or of this very process."""
    said = shlex.join(["python", "-m", *words])
    try:
        with nullcontext(children) if children else Children(1) as own:
            # Fifty progress bars would tell nothing.
            lines = commands.run(own, ["/bin/sh", "-c", said], root, TQDM_DISABLE="1")
    except (CommandFailed, Stopped) as failure:
        return commands.failed(failure)
    for line in lines:
        get_run_logger().info("%s", line)
    return Completed(message=" ".join(lines[-2:]))


def table() -> list[dict[str, str]]:
    """Return the table as the Prefect UI shows it."""
    with (ROOT / "reports" / "sweep.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def on_dask(workers: int) -> Flow[..., Any]:
    """Return the flow on a Dask cluster of this machine.

    Raises:
        BadInput: the extra is not installed.
    """
    try:
        from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415  # an extra
    except ImportError:
        raise BadInput(
            "`--dask` needs the extra `dask`: `pip install -c constraints.txt -e "
            "'.[dask]'`."
        ) from None
    cluster = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    runner: TaskRunner[Any] = DaskTaskRunner(cluster_kwargs=cluster)
    return sweep.with_options(task_runner=runner)


def main() -> None:
    """Run the flow from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    grids.add_arguments(parser)
    parser.add_argument(
        "--dask", type=int, metavar="N", help="on a Dask cluster of N workers, here"
    )
    arguments = vars(parser.parse_args())
    workers = arguments.pop("dask")
    if workers is None:
        command_line.run(sweep, **arguments)
    try:
        flow_on_dask = on_dask(workers)
    except BadInput as error:
        parser.exit(1, f"flows.sweep: {error}\n")
    command_line.run(flow_on_dask, **arguments, elsewhere=True)


if __name__ == "__main__":
    main()
