"""The run that a report shows: data, models, and the results that stages wrote."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.dataset import splits
from tasks.dataset.splits import Facts, Split, SplitName
from tasks.evaluation import metrics_file, model_set
from tasks.evaluation.model_set import BASELINE, MODELS
from tasks.modeling.model_file import Model
from tasks.rawdata import dataset_card
from tasks.rawdata.dataset_card import ReportedResults
from tasks.runtime import files
from tasks.runtime.params import BadInput, load

NORMALIZED = Path("data/normalized")
REPORTS = Path("reports")
MAX_BYTES = 100_000_000  # the predictions of six models on 10,000 images take 1 MB

Histories = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Run:
    """A run of the pipeline; its metrics and tables are the files of evaluate.

    Attributes:
        reported: results of others on the same data.
        models: by name, the baseline first.
        loss: the loss of each batch, (batches,), by network.
        accuracy: the accuracy in validation after each epoch, (epochs,), by network.
    """

    splits: Mapping[SplitName, Split]
    facts: Facts
    reported: ReportedResults
    models: Mapping[str, Model]
    metrics: Mapping[str, Any]
    confusion: pd.DataFrame
    calibration: pd.DataFrame
    predictions: pd.DataFrame
    loss: Histories
    accuracy: Histories


def read() -> Run:
    """Read a run from the project's folders.

    Raises:
        BadInput: a file is damaged, or is about other models or images.
    """
    models = model_set.read()
    predicted = dict.fromkeys(models, str)
    probabilities = {f"{name}_probability": float for name in models}
    run = Run(
        splits={name: splits.load(NORMALIZED, name) for name in splits.SPLITS},
        facts=splits.load_facts(NORMALIZED),
        reported=load("report", ReportedResults, dataset_card.selected()),
        models=models,
        metrics=metrics_file.read(REPORTS / "metrics.json"),
        confusion=_table(
            "confusion", model=str, split=str, actual=str, predicted=str, images=int
        ),
        calibration=_table(
            "calibration", model=str, confidence=float, accuracy=float, images=int
        ),
        predictions=_table(
            "predictions", index=int, label=str, **predicted, **probabilities
        ),
        loss=_histories(models, "loss", "loss"),
        accuracy=_histories(models, "accuracy", "valid"),
    )
    rows = np.arange(len(run.splits["valid"].labels))
    if list(run.metrics["models"]) != list(models) or not np.array_equal(
        run.predictions["index"], rows
    ):
        raise BadInput(
            f"The results in {REPORTS} are of other models or images. Run "
            "`dvc repro --force evaluate`."
        )
    return run


def _table(name: str, /, **types: type) -> pd.DataFrame:
    return read_csv(REPORTS / f"{name}.csv", types, "evaluate")


def _histories(models: Mapping[str, Model], name: str, column: str) -> Histories:
    return {
        network: read_csv(
            MODELS / f"{network}.{name}.csv", {column: float}, f"train@{network}"
        )[column].to_numpy()
        for network in models
        if network != BASELINE
    }


def read_csv(path: Path, types: Mapping[str, type], made_by: str) -> pd.DataFrame:
    """Read the columns `types` (`int`, `float` or `str`) of a stage's CSV file.

    Raises:
        BadInput: there are no rows, a column is missing, or a value is missing, of
            another type or not finite.
    """
    content = io.BytesIO(files.read_bytes(path, MAX_BYTES))
    options: dict[str, Any] = {"usecols": list(types), "dtype": dict(types)}
    # Only an empty value is missing: a class may be called "None" or "NA".
    options |= {"keep_default_na": False, "na_values": [""]}
    try:
        table: pd.DataFrame = pd.read_csv(content, **options)
    except (ValueError, OverflowError):
        table = pd.DataFrame()
    numbers = table.select_dtypes("number").to_numpy()
    if table.empty or table.isna().any(axis=None) or not np.isfinite(numbers).all():
        raise BadInput(f"{path} is damaged; run `dvc repro --force {made_by}`.")
    return table
