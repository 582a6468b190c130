"""Measure every model, choose the best on validation, and test only that one.

Reads `data/normalized/` and `models/`. Writes, under `reports/`:

- `metrics.json`: the scalar metrics of each model on train and validation, and of the
  predictions that remain when uncertain ones are set aside; the best model on
  validation and its metrics on the test set (no other model is tested); and how far the
  updates by hand agree with torch's optimizers;
- `classes.csv`: precision and recall by model, split and class;
- `confusion.csv`: number of images by model, split, true and predicted class;
- `calibration.csv`: confidence and accuracy on validation, by model and bin;
- `predictions.csv`: each model's prediction and its probability, by validation image.

The tables hold the names of the classes, not their labels.
"""

import itertools
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
# Each update by hand, and the optimizer of torch that computes the same.
BY_HAND = {"manual": "sgd", "manual_adam": "adam"}


class Measured(NamedTuple):
    """One model's predictions on one split, (N,), and their metrics."""

    predictions: Any
    right: Any
    probabilities: Any
    confusion: Any  # (classes, classes)
    summary: dict[str, float]


# By name of the model and of the split.
Results = Mapping[tuple[str, str], Measured]


def evaluate(
    trained: Mapping[str, Model],
    splits_by_name: Mapping[SplitName, Split],
    max_error: float,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Measure `trained` on train and validation, and the best of them on test.

    The best has the highest accuracy on validation; if several have, the first.

    Returns:
        The content of metrics.json, and the tables by name.

    Raises:
        BadInput: an image has a label that is not a class of the models.
    """
    names = np.array(next(iter(trained.values())).description.classes)
    highest = max(int(split.labels.max()) for split in splits_by_name.values())
    if highest >= len(names):
        raise BadInput(
            f"The models have {len(names)} classes, but the label of an image is "
            f"{highest}. Train them again."
        )
    results = {
        (name, split): _measure(model, splits_by_name[split])
        for name, model in trained.items()
        for split in ("train", "valid")
    }
    best = max(trained, key=lambda name: results[name, "valid"].summary["accuracy"])
    results[best, "test"] = _measure(trained[best], splits_by_name["test"])
    found = {
        "max_error": max_error,
        "models": {
            name: {
                "train": results[name, "train"].summary,
                "valid": results[name, "valid"].summary,
                "kept": _selection(name, model, results, max_error),
            }
            for name, model in trained.items()
        },
        "best": best,
        "test": results[best, "test"].summary,
        "by_hand": _by_hand(trained, results),
    }
    return found, _tables(results, splits_by_name["valid"].labels, names)


def _measure(model: Model, split: Split) -> Measured:
    class_names = model.description.classes
    logs = model.log_probabilities(split.images)
    predictions = logs.argmax(axis=1)
    return Measured(
        predictions,
        right=predictions == split.labels,
        probabilities=np.exp(logs.max(axis=1)),
        confusion=metrics.confusion(split.labels, predictions, len(class_names)),
        summary=metrics.summary(split.labels, logs, class_names),
    )


def _selection(
    name: str, model: Model, results: Results, max_error: float
) -> dict[str, Any]:
    """Return the threshold of a model, and the metrics of what it accepts."""
    curve = model.description.calibration
    threshold = calibration.threshold(curve, max_error) if curve else None
    return {"threshold": threshold} | {
        split: metrics.selective(found.right, found.probabilities, threshold)
        for split in ("valid", "test")
        if (found := results.get((name, split)))
    }


def _by_hand(trained: Mapping[str, Model], results: Results) -> dict[str, Any]:
    """Compare each update by hand with the optimizer that has its parameters."""
    found = {}
    for name, other in itertools.permutations(trained, 2):
        parameters = trained[name].description.parameters
        optimizer = BY_HAND.get(str(parameters.get("update")))
        twin = {**parameters, "update": optimizer, "gradient": "autograd"}
        if optimizer is None or trained[other].description.parameters != twin:
            continue
        same = results[name, "valid"].predictions == results[other, "valid"].predictions
        differences = (
            np.abs(values - trained[other].tensors[tensor]).max()
            for tensor, values in trained[name].tensors.items()
        )
        found[name] = {
            "optimizer": other,
            "same_predictions": round(float(same.mean()), metrics.DIGITS),
            "largest_difference": float(max(differences)),
        }
    return found


def _tables(results: Results, labels: Any, names: Any) -> dict[str, pd.DataFrame]:
    class_rows, pair_rows, bin_rows = [], [], []
    predictions = pd.DataFrame({"index": range(len(labels)), "label": names[labels]})
    actual, predicted = np.repeat(names, len(names)), np.tile(names, len(names))
    for (name, split), found in results.items():
        key = {"model": name, "split": split}
        scores = metrics.per_class(found.confusion)
        images = found.confusion.sum(axis=1)
        class_rows.append(
            pd.DataFrame({**key, "label": names, **scores, "images": images})
        )
        pairs = {"actual": actual, "predicted": predicted}
        images = found.confusion.ravel()
        pair_rows.append(pd.DataFrame({**key, **pairs, "images": images}))
        if split == "valid":
            bins = metrics.reliability(found.right, found.probabilities)
            bin_rows.append(pd.DataFrame({"model": name, **bins}))
            predictions[name] = names[found.predictions]
            predictions[f"{name}_probability"] = found.probabilities
    return {
        "classes": pd.concat(class_rows),
        "confusion": pd.concat(pair_rows),
        "calibration": pd.concat(bin_rows),
        "predictions": predictions,
    }


def selection_sentence(selection: Mapping[str, Any], max_error: float) -> str:
    """Describe the best model's predictions on the test set, with its threshold."""
    test = selection["test"]
    if test["error"] is None:
        return f"no threshold guarantees an error rate of {max_error:g}"
    return (
        f"{100 * test['set_aside']:.1f} % set aside, {100 * test['error']:.2f} % of "
        "the others wrong"
    )


def main() -> None:
    """Run the step on the project's folders."""
    cli.parser(__doc__).parse_args()
    parts = {name: splits.load(NORMALIZED, name) for name in splits.SPLITS}
    max_error = load("evaluate", ErrorLimit).max_error
    found, tables = evaluate(model_set.read(), parts, max_error)
    for name, table in tables.items():
        text = table.to_csv(index=False, float_format="%.6f", lineterminator="\n")
        files.write_text(REPORTS / f"{name}.csv", text)
    files.write_json(REPORTS / "metrics.json", found)
    for name, model in found["models"].items():
        print(f"{name}: accuracy {model['valid']['accuracy']:.4f} in validation")
    best, test = found["best"], found["test"]
    print(
        f"Best is {best}: accuracy {test['accuracy']:.4f} on the test set, "
        f"{test['accuracy_low']:.4f} to {test['accuracy_high']:.4f}; "
        + selection_sentence(found["models"][best]["kept"], max_error)
    )


if __name__ == "__main__":
    cli.run(main)
