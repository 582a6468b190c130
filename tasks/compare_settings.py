"""Compare the settings of a sweep: a table, a figure, and how to run the best.

Reads `points.yaml` and the trial of each point. Writes a CSV file (mean and standard
deviation of the accuracy in validation, and how many trainings diverged, for each
variant, learning rate and batch size) and its figure, an SVG file. The test set is not
used.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tasks.reporting import charts, svg
from tasks.runtime import cli, files
from tasks.runtime.params import load
from tasks.training.settings import Train
from tasks.trials import trial
from tasks.trials.trial import TRIALS, Trial
from tasks.tuning import grid, ranking
from tasks.tuning.grid import Point

POINTS = Path("points.yaml")


def compare_settings(
    trials: Mapping[Point, Trial], train: Train
) -> tuple[pd.DataFrame, str]:
    """Return the table of a sweep (see `tasks.tuning.ranking.table`) and its figure."""
    table = ranking.table(trials)
    rules = {name: variant.update for name, variant in train.variants.items()}
    with svg.style() as palette:
        figure = svg.render(charts.sweep(table, rules, palette))
    return table, svg.alone(figure)


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
    print(ranking.conclusion(table, train))


if __name__ == "__main__":
    cli.run(main)
