"""Measure how much results depend on the seed, and compare models over all seeds.

Reads the trials of every variant with every seed of `seeds.yaml`, `data/normalized/`
and `models/baseline.safetensors`. Writes a JSON file:

- `models`: for each model the number of trainings `n`, and mean and standard deviation
  of its accuracy, `valid` and `test`. The baseline does not depend on a seed: n is 1;
- `pairs`: for each pair of models, the difference of their accuracies in validation,
  and McNemar's test (see `compare`).

The test set only shows the spread: no model is chosen or compared by it. A suspiciously
good model is refused, and nothing is written.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeInt, RootModel
from scipy.stats import binomtest

from tasks.dataset import splits
from tasks.evaluation import model_set
from tasks.evaluation.model_set import BASELINE, MODELS
from tasks.modeling import model_file
from tasks.rawdata import dataset_card
from tasks.rawdata.dataset_card import ReportedResults
from tasks.runtime import cli, files
from tasks.runtime.params import BadInput, load
from tasks.trials import trial
from tasks.trials.trial import TRIALS, Trial

NORMALIZED = Path("data/normalized")
SEEDS = Path("seeds.yaml")
DIGITS = 7  # as in `tasks.evaluation.metrics`, which would import scikit-learn
P_DIGITS = 4  # significant ones; a p-value may be very small


class Seeds(RootModel[Annotated[list[NonNegativeInt], Field(min_length=1)]]):
    """`seeds` in seeds.yaml: every variant is trained with each."""


def compare_seeds(
    trials: Mapping[str, Mapping[int | None, Trial]], suspicious: float | None
) -> dict[str, Any]:
    """Return `models` and `pairs` of the report.

    Args:
        trials: for each model, by seed. A single trial with the seed None is compared
            with every seed of the others.
        suspicious: a linear model with a higher accuracy on the test set is refused.

    Raises:
        BadInput: a training diverged, or a model is suspiciously good.
    """
    for model, by_seed in trials.items():
        for seed, result in by_seed.items():
            name = model if seed is None else f"{model} with seed {seed}"
            _check(name, result, suspicious)
    correct = {
        model: np.stack([result.correct for result in by_seed.values()])
        for model, by_seed in trials.items()
    }
    return {
        "models": {
            model: {
                "n": len(by_seed),
                "valid": mean_and_sd([each.valid or 0 for each in by_seed.values()]),
                "test": mean_and_sd([each.test or 0 for each in by_seed.values()]),
            }
            for model, by_seed in trials.items()
        },
        "pairs": [
            {"one": one, "other": other, **compare(correct[one], correct[other])}
            for one, other in itertools.combinations(trials, 2)
        ],
    }


def _check(name: str, result: Trial, suspicious: float | None) -> None:
    """Refuse a diverged training, and a suspiciously good linear model."""
    if result.diverged:
        raise BadInput(
            f"{name} diverged; make its `learning_rate` in params.yaml smaller."
        )
    limit = suspicious if result.architecture == "linear" else None
    if limit is not None and result.test is not None and result.test > limit:
        raise BadInput(
            f"{name} has accuracy {result.test:.4f} on the test set, above {limit}: "
            "a linear model can't be that good on this data; look for test images in "
            "the training data."
        )


def mean_and_sd(
    values: Sequence[float] | npt.NDArray[np.float64],
) -> dict[str, float | None]:
    """Return `mean`, and `sd` with n - 1 in the denominator, None for one value."""
    numbers = np.asarray(values, dtype=np.float64)
    sd = round(float(numbers.std(ddof=1)), DIGITS) if len(numbers) > 1 else None
    return {"mean": round(float(numbers.mean()), DIGITS), "sd": sd}


def compare(
    one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]
) -> dict[str, float | None]:
    """Compare two models by the images they classify correctly, (seeds, images).

    Returns:
        `difference`: of the accuracies, one - other, mean over the seeds; its `sd`; and
        for the first seed the number of images `only_one_right` and `only_other_right`,
        and the `p_value` of McNemar's exact test (1947): if the models were equally
        good, each of these images would be either model's with probability one half.
    """
    difference = mean_and_sd((one.sum(axis=1) - other.sum(axis=1)) / one.shape[1])
    only_one = int(np.sum(one[0] & ~other[0]))
    only_other = int(np.sum(other[0] & ~one[0]))
    differing = only_one + only_other
    p_value = binomtest(only_one, differing).pvalue if differing else 1
    return {
        "difference": difference["mean"],
        "sd": difference["sd"],
        "only_one_right": only_one,
        "only_other_right": only_other,
        "p_value": float(f"{p_value:.{P_DIGITS}g}"),
    }


def main() -> None:
    """Run the step in `experiments/seeds`."""
    parser = cli.parser(__doc__)
    parser.add_argument("out", metavar="OUT", type=Path, help="the JSON file to write")
    out = parser.parse_args().out
    valid, test = splits.load(NORMALIZED, "valid"), splits.load(NORMALIZED, "test")
    baseline = model_file.load(MODELS / f"{BASELINE}.safetensors")
    trials: dict[str, dict[int | None, Trial]] = {
        BASELINE: {None: trial.measure(baseline, valid, test)}
    }
    seeds = load("seeds", Seeds, SEEDS).root
    for variant in model_set.networks():
        trials[variant] = {
            seed: trial.load(TRIALS / f"{variant}-{seed}.json") for seed in seeds
        }
    limit = load("report", ReportedResults, dataset_card.selected()).suspicious
    report = compare_seeds(trials, limit)
    files.write_json(out, report)
    for name, figures in report["models"].items():
        mean, sd = figures["test"].values()
        spread = "" if sd is None else f" +- {sd:.4f}"
        print(f"{name}: accuracy {mean:.4f}{spread} on the test set")


if __name__ == "__main__":
    cli.run(main)
