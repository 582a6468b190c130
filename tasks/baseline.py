"""Fit scikit-learn's logistic regression: the lesson's baseline.

Reads `data/normalized/`, writes `models/baseline.safetensors`. `liblinear` fits one
classifier per class and gives, to the last digit, what the lesson printed in 2017:
accuracy .90502 in training and .9137 in validation. `lbfgs` fits the multinomial model,
the same model as the networks: .9208 in validation.
"""

import os
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sklearn
from pydantic import PositiveFloat
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from tasks.dataset import splits
from tasks.dataset.splits import Facts, Split
from tasks.modeling import devices, model_file
from tasks.modeling.devices import Device
from tasks.modeling.model_file import Description, Model
from tasks.runtime import cli
from tasks.runtime.params import BadInput, Count, Settings, load

NORMALIZED = Path("data/normalized")
MODEL = Path("models/baseline.safetensors")


class Baseline(Settings):
    """Section `baseline` of params.yaml.

    Attributes:
        C_images: the inverse strength of the L2 penalty is C = C_images / len(train).
        device: only for `lbfgs`; other than `cpu` by scikit-learn's array API dispatch.
    """

    solver: Literal["lbfgs", "liblinear"]
    C_images: PositiveFloat
    device: Device
    max_iter: Count
    tol: PositiveFloat


def baseline(train: Split, facts: Facts, settings: Baseline) -> Model:
    """Fit the model and return it as a network of one layer.

    Raises:
        BadInput: CUDA is not available, or a class has no training image.
    """
    missing = set(range(len(facts.classes))) - set(train.labels.tolist())
    if missing:
        raise BadInput(
            f"None of the {len(train.labels)} training images shows "
            f"{facts.classes[min(missing)]}; make `normalize.validation` of the "
            "dataset card smaller."
        )
    weights, bias = _fit(train, facts, settings)
    one_vs_rest = settings.solver == "liblinear"
    if len(bias) == 1:
        # Two classes have one function, whose negative belongs to the other class.
        # Softmax uses the difference of both, one-vs-rest each of them.
        both = np.array([-1.0, 1.0]) / (1 if one_vs_rest else 2)
        weights, bias = weights * both, bias * both
    return Model(
        tensors={
            "weights": weights.astype(np.float32),
            "bias": bias.astype(np.float32),
        },
        description=Description(
            **dict(facts),
            link="one-vs-rest" if one_vs_rest else "softmax",
            parameters=settings.model_dump(),
        ),
    )


def _fit(train: Split, facts: Facts, settings: Baseline) -> tuple[Any, Any]:
    """Return weights, (inputs, classes), and bias, (classes,)."""
    X, y = facts.scale.standardize(train.images), train.labels
    regression = LogisticRegression(
        solver=settings.solver,
        C=settings.C_images / len(X),
        max_iter=settings.max_iter,
        tol=settings.tol,
    )
    if settings.solver == "liblinear":
        fitted = OneVsRestClassifier(regression).fit(X, y).estimators_
        weights = np.concatenate([each.coef_ for each in fitted])
        return weights.T, np.concatenate([each.intercept_ for each in fitted])
    if settings.device == "cpu":
        # Without torch, whose import takes longer than the fit.
        regression.fit(X, y)
        return regression.coef_.T, regression.intercept_
    import torch  # noqa: PLC0415  # as above

    device = devices.choose(settings.device, "baseline")
    with sklearn.config_context(array_api_dispatch=True):
        regression.fit(
            torch.from_numpy(X).to(device),
            torch.from_numpy(y.astype(np.int64)).to(device),
        )
    coefficients, intercepts = regression.coef_, regression.intercept_
    return coefficients.cpu().numpy().T, intercepts.cpu().numpy()


def main() -> None:
    """Run the step on the project's folders."""
    cli.parser(__doc__).parse_args()
    settings = load("baseline", Baseline)
    if settings.device != "cpu" and os.environ.get("SCIPY_ARRAY_API") != "1":
        # SciPy reads this variable only when it is imported: start again.
        environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
        command = [sys.executable, "-m", "tasks.baseline"]
        os.execve(sys.executable, command, environment)  # noqa: S606  # without a shell
    facts = splits.load_facts(NORMALIZED)
    valid = splits.load(NORMALIZED, "valid")
    model = baseline(splits.load(NORMALIZED, "train"), facts, settings)
    model = model_file.calibrated(model, valid)
    model_file.save(model, MODEL)
    accuracy = np.mean(model.predict(valid.images) == valid.labels)
    print(f"{settings.solver}: accuracy {accuracy:.4f} in validation")


if __name__ == "__main__":
    cli.run(main)
