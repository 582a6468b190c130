"""The table of a sweep: one row per setting, and which setting did best."""

from collections.abc import Mapping

import pandas as pd

from tasks.runtime.params import BadInput
from tasks.training.settings import Train
from tasks.trials.trial import Trial
from tasks.tuning.grid import Point

SETTING = ["variant", "learning_rate", "batch_size"]
DIGITS = 6


def table(trials: Mapping[Point, Trial]) -> pd.DataFrame:
    """Return a row for each variant, learning rate and batch size.

    Returns:
        variant, learning_rate, batch_size; `n` trainings that converged, and how many
        `diverged`; `mean` and `sd` (n - 1) of the accuracy on the validation images,
        NaN if there are too few.
    """
    results = pd.DataFrame([point.model_dump() for point in trials])
    results["valid"] = pd.Series(
        [trial.valid for trial in trials.values()], dtype=float
    )
    valid = results.groupby(SETTING, sort=False)["valid"]
    summary = valid.agg(n="count", diverged="size", mean="mean", sd="std")
    summary["diverged"] -= summary["n"]
    return summary.round(DIGITS).reset_index()


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
