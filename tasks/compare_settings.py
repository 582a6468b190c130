"""Compare the settings of a sweep: a table, a figure, and how to run the best.

Reads `points.yaml` and the trial of each point. Writes a CSV file (mean and standard
deviation of the accuracy in validation, and how many trainings diverged, for each
variant, learning rate and batch size) and its figure, an SVG file. The test set is not
used.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.reporting import charts, svg
from tasks.runtime import cli, files
from tasks.runtime.params import BadInput, load
from tasks.training.settings import Train
from tasks.trials import trial
from tasks.trials.trial import TRIALS, Trial
from tasks.tuning import grid
from tasks.tuning.grid import Point

POINTS = Path("points.yaml")
SETTING = ["variant", "learning_rate", "batch_size"]
DIGITS = 6


def compare_settings(
    trials: Mapping[Point, Trial], train: Train
) -> tuple[pd.DataFrame, str]:
    """Return the table of a sweep, and its figure as an SVG file.

    The table has a row for each variant, learning rate and batch size: `n` trainings
    that converged, how many `diverged`, and `mean` and `sd` (n - 1) of the accuracy on
    the validation images, NaN if there are too few.
    """
    results = pd.DataFrame([point.model_dump() for point in trials])
    results["valid"] = np.array([trial.valid for trial in trials.values()], float)
    valid = results.groupby(SETTING, sort=False)["valid"]
    summary = valid.agg(n="count", diverged="size", mean="mean", sd="std")
    summary["diverged"] -= summary["n"]
    table = summary.round(DIGITS).reset_index()
    rules = {name: variant.update for name, variant in train.variants.items()}
    with svg.style() as palette:
        figure = svg.render(charts.sweep(table, rules, palette))
    return table, svg.standalone(figure)


def conclusion(table: pd.DataFrame, train: Train) -> str:
    """Say in two lines which setting is best, of those that never diverged.

    Raises:
        BadInput: every setting diverged.
    """
    converged = table[table["diverged"] == 0]
    if converged.empty:
        raise BadInput("All settings diverged; sweep over smaller learning rates.")
    best = converged.nlargest(1, "mean").iloc[0]
    name, rate, size = best["variant"], best["learning_rate"], best["batch_size"]
    trainings = table[["n", "diverged"]].to_numpy().sum()
    return (
        f"{trainings} trainings, {len(table)} settings; the best is {name} with "
        f"learning rate {rate:g} and batch size {size}: accuracy {best['mean']:.4f} in "
        f"validation. To run it:\n{_command(name, rate, size, train)}"
    )


def _command(name: str, learning_rate: float, batch_size: int, train: Train) -> str:
    """Return the command that runs the pipeline with a setting."""
    variant = train.variants[name]
    key = f"train.variants.{name}"
    changes = []
    if learning_rate != variant.learning_rate:
        changes.append(f"-S {key}.learning_rate={learning_rate:g}")
    if batch_size != train.resolve(name).batch_size:
        # A plus adds a key that does not exist yet.
        new = "" if variant.batch_size else "+"
        changes.append(f"-S {new}{key}.batch_size={batch_size}")
    return " ".join(["dvc exp run", *changes])


def main() -> None:
    """Run the step in `experiments/sweep`."""
    parser = cli.parser(__doc__)
    parser.add_argument("table", metavar="TABLE", type=Path, help="the CSV to write")
    parser.add_argument("figure", metavar="FIGURE", type=Path, help="the SVG to write")
    paths = parser.parse_args()
    train = load("train", Train)
    points = grid.read(POINTS)
    trials = {
        point: trial.load(TRIALS / f"{name}.json") for name, point in points.items()
    }
    table, figure = compare_settings(trials, train)
    files.write_text(paths.figure, figure)
    files.write_text(paths.table, table.to_csv(index=False, lineterminator="\n"))
    print(conclusion(table, train))


if __name__ == "__main__":
    cli.run(main)
