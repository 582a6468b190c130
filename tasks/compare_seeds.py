"""Say how much results depend on the seed, and which models differ by more than luck.

Reads the trials of every variant with every seed of `seeds.yaml`, `data/normalized/`
and `models/baseline.safetensors`. Writes a JSON file:

- `models`: of each the number of trainings `n`, and mean and standard deviation of its
  accuracy, `valid` and `test`. The baseline does not depend on a seed: its n is 1;
- `pairs`: of each two models, how much more often `one` is right on the validation
  images than the `other` (mean and standard deviation over the seeds), and McNemar's
  test of their models of the first seed.

The test set is used for its spread alone: no model is chosen, nor compared, by it. A
model that does too well there is refused, and then nothing is written.
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
from tasks.trials.trial import Trial

NORMALIZED = Path("data/normalized")
SEEDS = Path("seeds.yaml")
TRIALS = Path("trials")
DIGITS = 7  # as in `tasks.evaluation.metrics`, which would import scikit-learn
P_DIGITS = 4  # significant ones; a p-value may be very small


class Seeds(RootModel[Annotated[list[NonNegativeInt], Field(min_length=1)]]):
    """`seeds` in seeds.yaml: what every variant is trained with."""


def compare_seeds(
    trials: Mapping[str, Mapping[int | None, Trial]], suspicious: float | None
) -> dict[str, Any]:
    """Return `models` and `pairs` of the report.

    Args:
        trials: of each model, by seed; all have the same seeds, or one trial, whose
            seed is None and which is compared with every seed of the others.
        suspicious: the accuracy on the test set above which a linear model is refused;
            None where no limit is known.

    Raises:
        BadInput: a training diverged, or a model is suspiciously good.
    """
    for model, by_seed in trials.items():
        for seed, result in by_seed.items():
            name = model if seed is None else f"{model} with seed {seed}"
            _refuse_diverged(name, result)
            _refuse_suspicious(name, result, suspicious)
    correct = {
        model: np.stack([result.correct for result in by_seed.values()])
        for model, by_seed in trials.items()
    }
    return {
        "models": {
            model: _summary(list(by_seed.values())) for model, by_seed in trials.items()
        },
        "pairs": [
            {"one": one, "other": other, **compare(correct[one], correct[other])}
            for one, other in itertools.combinations(trials, 2)
        ],
    }


def _refuse_diverged(name: str, result: Trial) -> None:
    if result.diverged:
        raise BadInput(
            f"{name} diverged; make its `learning_rate` in params.yaml smaller."
        )


def _refuse_suspicious(name: str, result: Trial, limit: float | None) -> None:
    if limit is None or result.test is None or result.architecture != "linear":
        return
    if result.test > limit:
        raise BadInput(
            f"{name} has accuracy {result.test:.4f} on the test set, above {limit}: a "
            "linear model can't be that good on this data; look for test images in "
            "the training data."
        )


def _summary(results: Sequence[Trial]) -> dict[str, Any]:
    return {
        "n": len(results),
        "valid": mean_and_deviation([result.valid or 0 for result in results]),
        "test": mean_and_deviation([result.test or 0 for result in results]),
    }


def mean_and_deviation(values: npt.ArrayLike) -> dict[str, float | None]:
    """Return `mean`, and `sd` with n - 1 in the denominator: None for one value."""
    numbers = np.asarray(values, dtype=np.float64)
    deviation = numbers.std(ddof=1) if len(numbers) > 1 else None
    return {
        "mean": round(float(numbers.mean()), DIGITS),
        "sd": None if deviation is None else round(float(deviation), DIGITS),
    }


def compare(
    one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]
) -> dict[str, float | None]:
    """Compare two models on the same images, seed by seed.

    Args:
        one: whether it is right, (seeds, images), or (1, images) for all seeds.
        other: as `one`.

    Returns:
        `difference`: of the accuracies, one - other, mean over the seeds; its `sd`;
        and of the first seed, the images that `only_one_right` and `only_other_right`,
        and the `p_value` of McNemar's test (1947), exact: if neither model were
        better, each of those images would be either's with a chance of one half.
    """
    differences = (one.sum(axis=1) - other.sum(axis=1)) / one.shape[1]
    mean, deviation = mean_and_deviation(differences).values()
    only_one = int(np.sum(one[0] & ~other[0]))
    only_other = int(np.sum(other[0] & ~one[0]))
    return {
        "difference": mean,
        "sd": deviation,
        "only_one_right": only_one,
        "only_other_right": only_other,
        "p_value": _mcnemar(only_one, only_other),
    }


def _mcnemar(only_one: int, only_other: int) -> float:
    differing = only_one + only_other
    if differing == 0:
        return 1.0
    return float(f"{binomtest(only_one, differing).pvalue:.{P_DIGITS}g}")


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
        mean, deviation = figures["test"].values()
        more = "" if deviation is None else f" +- {deviation:.4f}"
        print(f"{name}: accuracy {mean:.4f}{more} on the test set")


if __name__ == "__main__":
    cli.run(main)
