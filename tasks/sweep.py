"""Say which settings of a sweep did best: a table, a figure, and how to run the winner.

Reads what `tasks.retrain` kept of every training of the grid, and writes
`reports/sweep.csv` (mean and standard deviation of the accuracy in validation, and how
many trainings diverged, for each variant, learning rate and batch size) and
`reports/sweep.svg`. Its last line is the command that runs the pipeline with the best
settings. The test set is not looked at.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tasks import grids, repeats
from tasks.grids import Grid, Point, Train
from tasks.repeats import Repeat
from tasks.reporting import charts, svg
from tasks.runtime import cli, files, params
from tasks.runtime.params import BadInput

TABLE = Path("reports/sweep.csv")
FIGURE = Path("reports/sweep.svg")
DIGITS = 6


class Setting(NamedTuple):
    """What the trainings of one row of the table have in common."""

    variant: str
    learning_rate: float
    batch_size: int


def sweep(results: Mapping[Point, Repeat]) -> pd.DataFrame:
    """Return a row for each variant, learning rate and batch size.

    Returns:
        variant, learning_rate, batch_size; `n` trainings that ended well, and how many
        `diverged`; `mean` and `sd` (n - 1) of the accuracy in validation: NaN where
        there are too few.
    """
    by_setting: dict[Setting, list[Repeat]] = {}
    for point, result in results.items():
        by_setting.setdefault(Setting(*point[:3]), []).append(result)
    return pd.DataFrame(
        {**setting._asdict(), **_row(some)} for setting, some in by_setting.items()
    )


def _row(results: Sequence[Repeat]) -> dict[str, float]:
    reached = np.array([one.valid for one in results if not one.diverged])
    return {
        "n": len(reached),
        "diverged": len(results) - len(reached),
        "mean": reached.mean() if len(reached) else np.nan,
        "sd": reached.std(ddof=1) if len(reached) > 1 else np.nan,
    }


def best(table: pd.DataFrame) -> tuple[Setting, float]:
    """Return the setting with the highest mean, none of whose trainings diverged.

    Raises:
        BadInput: there is none.
    """
    whole = table[table["diverged"] == 0].to_dict("records")
    if not whole:
        raise BadInput("All settings diverged; sweep over smaller learning rates.")
    row = max(whole, key=lambda row: row["mean"])
    return Setting(*(row[key] for key in Setting._fields)), row["mean"]


def to_run(winner: Setting, train: Train) -> str:
    """Return the command that runs the pipeline with the winner's settings."""
    own = train.variants[winner.variant]
    place = f"train.variants.{winner.variant}"
    changes = []
    if winner.learning_rate != own.learning_rate:
        changes.append(f"-S {place}.learning_rate={winner.learning_rate:g}")
    if winner.batch_size != (own.batch_size or train.batch_size):
        # A plus where the key is not there yet.
        new = "" if own.batch_size else "+"
        changes.append(f"-S {new}{place}.batch_size={winner.batch_size}")
    return " ".join(["dvc exp run", *changes])


def _kept(point: Point, mark: str) -> Repeat:
    kept = repeats.load(point.variant, point.seed, mark)
    if not kept:
        raise BadInput(
            f"{point.variant} has not been trained with learning rate "
            f"{point.learning_rate:g}, batch size {point.batch_size} and seed "
            f"{point.seed}; run `python -m flows.sweep` with the same grid."
        )
    return kept


def main() -> None:
    """Summarize what is kept in the project's folders."""
    parser = cli.parser(__doc__)
    grids.add_arguments(parser)
    points = Grid.of(vars(parser.parse_args())).points()
    marks = repeats.marks_of(points)
    table = sweep({point: _kept(point, marks[point]) for point in points})
    winner, reached = best(table)
    train = params.load("train", Train)
    rules = {name: own.update for name, own in train.variants.items()}
    with svg.style() as palette:
        figure = svg.render(charts.sweep(table, rules, palette))
    text = io.StringIO()
    table.to_csv(text, index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
    files.write_text(FIGURE, svg.alone(figure))
    files.write_text(TABLE, text.getvalue())
    print(
        f"{len(points)} trainings, {len(table)} settings: {TABLE}, {FIGURE}; the best "
        f"is {winner.variant} with learning rate {winner.learning_rate:g} and batch "
        f"size {winner.batch_size}: accuracy {reached:.4f} in validation. To run it:"
    )
    print(to_run(winner, train))


if __name__ == "__main__":
    cli.run(main)
