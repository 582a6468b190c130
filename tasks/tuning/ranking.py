"""The table of a sweep: one row per setting, and which setting did best."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from tasks.runtime.params import BadInput
from tasks.training.settings import Train
from tasks.trials.trial import Trial
from tasks.tuning.grid import Point

DIGITS = 6


class Setting(NamedTuple):
    """What the trainings in one row of the table have in common."""

    variant: str
    learning_rate: float
    batch_size: int


def table(trials: Mapping[Point, Trial]) -> pd.DataFrame:
    """Return a row for each variant, learning rate and batch size.

    Returns:
        variant, learning_rate, batch_size; `n` trainings that converged, and how many
        `diverged`; `mean` and `sd` (n - 1) of the accuracy on the validation images:
        NaN where there are too few.
    """
    by_setting: dict[Setting, list[Trial]] = {}
    for point, trial in trials.items():
        setting = Setting(point.variant, point.learning_rate, point.batch_size)
        by_setting.setdefault(setting, []).append(trial)
    return pd.DataFrame(
        {**setting._asdict(), **_row(some)} for setting, some in by_setting.items()
    )


def _row(trials: Sequence[Trial]) -> dict[str, float]:
    accuracy = np.array([trial.valid for trial in trials if trial.valid is not None])
    return {
        "n": len(accuracy),
        "diverged": len(trials) - len(accuracy),
        "mean": round(accuracy.mean(), DIGITS) if len(accuracy) else np.nan,
        "sd": round(accuracy.std(ddof=1), DIGITS) if len(accuracy) > 1 else np.nan,
    }


def best(table: pd.DataFrame) -> tuple[Setting, float]:
    """Return the setting with the highest mean among those that never diverged.

    Raises:
        BadInput: every setting diverged.
    """
    converged = table[table["diverged"] == 0].to_dict("records")
    if not converged:
        raise BadInput("All settings diverged; sweep over smaller learning rates.")
    row = max(converged, key=lambda row: row["mean"])
    return Setting(*(row[key] for key in Setting._fields)), row["mean"]


def command(setting: Setting, train: Train) -> str:
    """Return the command that runs the pipeline with `setting`."""
    variant = train.variants[setting.variant]
    key = f"train.variants.{setting.variant}"
    changes = []
    if setting.learning_rate != variant.learning_rate:
        changes.append(f"-S {key}.learning_rate={setting.learning_rate:g}")
    if setting.batch_size != train.resolve(setting.variant).batch_size:
        # A plus adds a key that does not exist yet.
        new = "" if variant.batch_size else "+"
        changes.append(f"-S {new}{key}.batch_size={setting.batch_size}")
    return " ".join(["dvc exp run", *changes])


def conclusion(table: pd.DataFrame, train: Train) -> str:
    """Say in two lines which setting did best and how to run it.

    Raises:
        BadInput: every setting diverged.
    """
    setting, accuracy = best(table)
    trainings = int(table["n"].sum() + table["diverged"].sum())
    return (
        f"{trainings} trainings, {len(table)} settings; the best is {setting.variant} "
        f"with learning rate {setting.learning_rate:g} and batch size "
        f"{setting.batch_size}: accuracy {accuracy:.4f} in validation. To run it:\n"
        f"{command(setting, train)}"
    )
