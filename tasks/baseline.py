"""Fit scikit-learn's logistic regression: the lesson's baseline.

Reads `data/normalized/`, writes `models/baseline.safetensors`. `liblinear` fits one
classifier per class and gives, to the last figure, what the lesson printed in 2017:
accuracy .90502 in training and .9137 in validation. `lbfgs` fits the multinomial model,
which is the one that the networks are: .9208 in validation.
"""

import os
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import sklearn
from pydantic import PositiveFloat
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from tasks.dataset import splits
from tasks.dataset.splits import Facts, Floats, Pixels, Split
from tasks.modeling import model_file
from tasks.modeling.model_file import Description, Model, calibrated
from tasks.runtime import cli
from tasks.runtime.params import BadInput, Count, Settings, load

NORMALIZED = Path("data/normalized")
MODEL = Path("models/baseline.safetensors")


class Baseline(Settings):
    """Section `baseline` of params.yaml.

    Attributes:
        solver: `lbfgs` (multinomial) or `liblinear` (one classifier per class).
        C_images: the inverse strength of the L2 penalty is C = C_images / len(train).
        device: where to fit; anything but `cpu` is for `lbfgs`, by scikit-learn's array
            API dispatch to torch.
        max_iter: the solver's iterations at most.
        tol: the solver's stopping tolerance.
    """

    solver: Literal["lbfgs", "liblinear"]
    C_images: PositiveFloat
    device: Literal["auto", "cpu", "cuda"]
    max_iter: Count
    tol: PositiveFloat


def baseline(train: Split, facts: Facts, settings: Baseline) -> Model:
    """Return the fitted model, its coefficients in the form of a one-layer network.

    Raises:
        BadInput: CUDA was asked for and is not there, or no image shows some class.
    """
    shown = set(np.unique(train.labels).tolist())
    if missing := [
        name for label, name in enumerate(facts.classes) if label not in shown
    ]:
        raise BadInput(
            f"None of the {len(train.labels)} training images shows {missing[0]}; make "
            "`normalize.validation` of the dataset card smaller."
        )
    X = facts.scale.standardize(train.images)
    regression = LogisticRegression(
        solver=settings.solver,
        C=settings.C_images / len(X),
        max_iter=settings.max_iter,
        tol=settings.tol,
    )
    if settings.solver == "liblinear":
        ensemble = OneVsRestClassifier(regression).fit(X, train.labels)
        coefficients = np.concatenate([one.coef_ for one in ensemble.estimators_])
        intercepts = np.concatenate([one.intercept_ for one in ensemble.estimators_])
    else:
        _fit(regression, X, train.labels, settings.device)
        coefficients, intercepts = (
            np.from_dlpack(fitted.cpu()) if hasattr(fitted, "cpu") else fitted
            for fitted in (regression.coef_, regression.intercept_)
        )
    if len(intercepts) == 1:
        # Of two classes it fits one function. Its negative is the other's; softmax sees
        # the difference of both, one-vs-rest each alone.
        both = np.array([[-1], [1]]) / (1 if settings.solver == "liblinear" else 2)
        coefficients, intercepts = both * coefficients, (both * intercepts).ravel()
    return Model(
        tensors={
            "weights": coefficients.T.astype(np.float32),
            "bias": intercepts.astype(np.float32),
        },
        description=Description(
            **dict(facts),
            link="one-vs-rest" if settings.solver == "liblinear" else "softmax",
            parameters=settings.model_dump(),
        ),
    )


def _fit(
    regression: LogisticRegression,
    X: Floats,
    y: Pixels,
    device: Literal["auto", "cpu", "cuda"],
) -> None:
    """Fit `regression`, on a GPU if one is wanted and there."""
    if device == "cpu":
        regression.fit(X, y)
        return
    # On the CPU this step does without torch, which takes longer to import than to use.
    import torch  # noqa: PLC0415

    from tasks.modeling import devices  # noqa: PLC0415

    there = devices.choose(device, "baseline")
    with sklearn.config_context(array_api_dispatch=True):
        regression.fit(
            torch.from_numpy(X).to(there),
            torch.from_numpy(y.astype(np.int64)).to(there),
        )


def _start_anew() -> None:
    """Start this program again, where SciPy may compute on other arrays than NumPy's.

    It looks for that variable once, when it is imported.
    """
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    os.execve(sys.executable, [sys.executable, "-m", "tasks.baseline"], environment)  # noqa: S606  # without a shell


def main() -> None:
    """Run the step on the project's folders."""
    cli.parser(__doc__).parse_args()
    settings = load("baseline", Baseline)
    if settings.device != "cpu" and os.environ.get("SCIPY_ARRAY_API") != "1":
        _start_anew()
    facts = splits.load_facts(NORMALIZED)
    valid = splits.load(NORMALIZED, "valid")
    model = baseline(splits.load(NORMALIZED, "train"), facts, settings)
    model = calibrated(model, valid)
    model_file.save(model, MODEL)
    accuracy = np.mean(model.predict(valid.images) == valid.labels)
    print(f"{settings.solver}: accuracy {accuracy:.4f} in validation")


if __name__ == "__main__":
    cli.run(main)
