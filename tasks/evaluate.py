"""Measure every model, choose the best on validation, and test that one alone.

Reads `data/normalized/` and `models/`. Writes, under `reports/`:

- `metrics.json`: the scalar metrics of each model on train and validation, and what
  becomes of its predictions when the less certain are set aside; the best model on
  validation, its metrics on the test set (read for no other model), and how far the
  updates by hand agree with the optimizer's;
- `classes.csv`: precision and recall of each class, by model and split;
- `confusion.csv`: how often which class was taken for which, by model and split;
- `calibration.csv`: how sure each model is and how often it is right then, on
  validation;
- `predictions.csv`: each model's prediction and its probability, by validation image.

Classes stand there by their names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tasks.dataset import splits
from tasks.dataset.splits import Split, SplitName
from tasks.evaluation import metrics, model_set
from tasks.modeling import calibration
from tasks.modeling.calibration import ErrorLimit
from tasks.modeling.model_file import Model
from tasks.runtime import cli, files
from tasks.runtime.params import BadInput, load

NORMALIZED = Path("data/normalized")
REPORTS = Path("reports")
# The updates by hand, and the optimizers that they are.
BY_HAND = {"manual": "sgd", "manual_adam": "adam"}


class Evaluate(ErrorLimit):
    """Section `evaluate` of params.yaml."""


class Evaluation(NamedTuple):
    """What `evaluate` returns: the content of metrics.json, and four tables."""

    metrics: dict[str, Any]
    classes: pd.DataFrame
    confusion: pd.DataFrame
    calibration: pd.DataFrame
    predictions: pd.DataFrame


def evaluate(
    trained: Mapping[str, Model],
    splits_by_name: Mapping[SplitName, Split],
    settings: Evaluate,
) -> Evaluation:
    """Measure `trained` on train and validation, and the best of them on test.

    The best has the highest accuracy on validation; of several, the first.

    Raises:
        BadInput: an image has a label that the models do not know.
    """
    class_names = next(iter(trained.values())).description.classes
    _refuse_unknown_labels(len(class_names), splits_by_name)
    valid = splits_by_name["valid"]
    names = np.array(class_names)
    figures: dict[str, dict[str, Any]] = {name: {} for name in trained}
    counts: dict[tuple[str, str], Any] = {}
    predictions = pd.DataFrame({"label": names[valid.labels]})
    for name, model in trained.items():
        for split in ("train", "valid"):
            scores, counts[name, split] = _measure(model, splits_by_name[split])
            figures[name][split] = scores.summary
        threshold = _threshold(model, settings)
        figures[name]["kept"] = {
            "threshold": threshold,
            "valid": metrics.selective(scores.right, scores.probabilities, threshold),
        }
        predictions[name] = names[scores.predictions]
        predictions[f"{name}_probability"] = scores.probabilities
    best = max(trained, key=lambda name: figures[name]["valid"]["accuracy"])
    test, counts[best, "test"] = _measure(trained[best], splits_by_name["test"])
    selection = figures[best]["kept"]
    selection["test"] = metrics.selective(
        test.right, test.probabilities, selection["threshold"]
    )
    return Evaluation(
        metrics={
            "max_error": settings.max_error,
            "models": figures,
            "best": best,
            "test": test.summary,
            "by_hand": _by_hand(trained, valid),
        },
        classes=_class_table(counts, names),
        confusion=_confusion_table(counts, names),
        calibration=_calibration_table(predictions, trained),
        predictions=predictions.rename_axis("index"),
    )


def _refuse_unknown_labels(
    n_classes: int, splits_by_name: Mapping[SplitName, Split]
) -> None:
    highest = max(int(part.labels.max()) for part in splits_by_name.values())
    if highest >= n_classes:
        raise BadInput(
            f"The models have {n_classes} classes, but the label of an image is "
            f"{highest}; train them anew."
        )


def _threshold(model: Model, settings: Evaluate) -> float | None:
    measured = model.description.calibration
    return calibration.threshold(measured, settings.max_error) if measured else None


class SplitResult(NamedTuple):
    """One model's results on one split; all but the summary are (N,)."""

    summary: dict[str, float]
    predictions: Any
    right: Any
    probabilities: Any


def _measure(model: Model, split: Split) -> tuple[SplitResult, Any]:
    class_names = model.description.classes
    logs = model.log_probabilities(split.images)
    predictions = logs.argmax(axis=1)
    scores = SplitResult(
        metrics.summary(split.labels, logs, class_names),
        predictions,
        predictions == split.labels,
        np.exp(logs.max(axis=1)),
    )
    return scores, metrics.confusion(split.labels, predictions, len(class_names))


def _by_hand(trained: Mapping[str, Model], valid: Split) -> dict[str, Any]:
    """Compare each update by hand with the optimizer's that has its parameters."""
    pairs = (
        (name, other)
        for name, model in trained.items()
        for other, twin in trained.items()
        if (rule := BY_HAND.get(str(_update(model))))
        and {**model.description.parameters, "update": rule, "gradient": "autograd"}
        == twin.description.parameters
    )
    return {
        name: {
            "optimizer": other,
            **metrics.agreement(trained[name], trained[other], valid),
        }
        for name, other in pairs
    }


def _update(model: Model) -> Any:
    return model.description.parameters.get("update")


def _class_table(counts: Mapping[tuple[str, str], Any], names: Any) -> pd.DataFrame:
    return pd.concat(
        pd.DataFrame(
            {
                "model": name,
                "split": split,
                "label": names,
                **metrics.per_class(matrix),
                "images": matrix.sum(axis=1),
            }
        )
        for (name, split), matrix in counts.items()
    )


def _confusion_table(counts: Mapping[tuple[str, str], Any], names: Any) -> pd.DataFrame:
    actual, predicted = np.meshgrid(names, names, indexing="ij")

    def rows(name: str, split: str, matrix: Any) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "model": name,
                "split": split,
                "actual": actual.ravel(),
                "predicted": predicted.ravel(),
                "images": matrix.ravel(),
            }
        )

    return pd.concat(rows(*key, matrix) for key, matrix in counts.items())


def _calibration_table(
    predictions: pd.DataFrame, trained: Mapping[str, Model]
) -> pd.DataFrame:
    def rows(name: str) -> pd.DataFrame:
        right = (predictions[name] == predictions["label"]).to_numpy()
        sure = predictions[f"{name}_probability"].to_numpy()
        bins = metrics.reliability(right, sure)
        columns = {k: v for k, v in bins._asdict().items() if k != "error"}
        return pd.DataFrame({"model": name, **columns})

    return pd.concat(map(rows, trained))


def _write_table(table: pd.DataFrame, name: str, *, index: bool = False) -> None:
    text = table.to_csv(index=index, float_format="%.6f", lineterminator="\n")
    files.write_text(REPORTS / name, text)


def selection_sentence(selection: Mapping[str, Any], max_error: float) -> str:
    """Say what becomes of the best model's predictions on the test set."""
    test = selection["test"]
    if test["error"] is None:
        return f"an error of {max_error:g} can be promised of none of its predictions"
    return (
        f"{100 * test['set_aside']:.1f} % set aside, of the others "
        f"{100 * test['error']:.2f} % wrong"
    )


def main() -> None:
    """Run the step on the project's folders."""
    cli.parser(__doc__).parse_args()
    parts = {name: splits.load(NORMALIZED, name) for name in splits.SPLITS}
    settings = load("evaluate", Evaluate)
    result = evaluate(model_set.read(), parts, settings)
    _write_table(result.classes, "classes.csv")
    _write_table(result.confusion, "confusion.csv")
    _write_table(result.calibration, "calibration.csv")
    _write_table(result.predictions, "predictions.csv", index=True)
    files.write_json(REPORTS / "metrics.json", result.metrics)
    for name, scores in result.metrics["models"].items():
        print(f"{name}: accuracy {scores['valid']['accuracy']:.4f} in validation")
    best, test = result.metrics["best"], result.metrics["test"]
    print(
        f"Best is {best}: accuracy {test['accuracy']:.4f} on the test set, "
        f"{test['accuracy_low']:.4f} to {test['accuracy_high']:.4f}; "
        + selection_sentence(result.metrics["models"][best]["kept"], settings.max_error)
    )


if __name__ == "__main__":
    cli.run(main)
