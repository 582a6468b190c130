"""Say how much results depend on the seed, and which models differ by more than luck.

Reads what `tasks.retrain` kept of the seeds 0 to n - 1, `data/normalized/` and
`models/baseline.safetensors`. Writes `reports/seeds.json`:

- `recipes`: by variant, the digest of the settings and the code it was trained by;
- `models`: of each the number of trainings `n`, and mean and standard deviation of its
  accuracy, `valid` and `test`. The baseline does not depend on a seed: its n is 1;
- `pairs`: of each two models, how much more often `one` is right on the validation
  images than the `other` (mean and standard deviation over the seeds), and McNemar's
  test of their models of seed 0.

The test set is used for its spread alone: no model is chosen, nor compared, by it. A
model that does too well there is refused, and then nothing is written.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from tasks import repeats
from tasks.dataset import splits
from tasks.dataset.splits import Pixels
from tasks.evaluation.model_set import BASELINE, MODELS
from tasks.modeling import model_file
from tasks.rawdata import dataset_card
from tasks.rawdata.dataset_card import ReportedResults
from tasks.repeats import NORMALIZED, Repeat
from tasks.runtime import cli, files
from tasks.runtime.params import BadInput, load

REPORT = Path("reports/seeds.json")
DIGITS = 7  # as in `tasks.evaluation.metrics`, which would bring scikit-learn along
P_DIGITS = 4  # significant ones; a p-value may be very small


def spread(
    results: Mapping[str, Sequence[Repeat]],
    labels: Pixels,
    suspicious: float | None,
) -> dict[str, Any]:
    """Return `models` and `pairs` of the report.

    Args:
        results: of each model, by seed; all have as many, or one, which then stands
            for every seed.
        labels: of the validation images, (N,).
        suspicious: the accuracy on the test set above which a linear model is refused;
            None where nothing is known.

    Raises:
        BadInput: a model is that good.
    """
    for result in itertools.chain(*results.values()):
        if suspicious and result.architecture == "linear":
            _refuse_miracle(result, suspicious)
    right = {name: _right(some, labels) for name, some in results.items()}
    return {
        "models": {
            name: {
                "n": len(some),
                "valid": mean_and_deviation([one.valid for one in some]),
                "test": mean_and_deviation([one.test for one in some]),
            }
            for name, some in results.items()
        },
        "pairs": [
            {"one": one, "other": other, **compare(right[one], right[other])}
            for one, other in itertools.combinations(results, 2)
        ],
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


def _right(results: Sequence[Repeat], labels: Pixels) -> npt.NDArray[np.bool_]:
    """Return which images each result is right on, (results, images)."""
    rows = [np.frombuffer(one.predictions, dtype=np.uint8) for one in results]
    return np.asarray(np.stack(rows) == labels)


def _refuse_miracle(result: Repeat, suspicious: float) -> None:
    if result.test > suspicious:
        seed = "" if result.seed is None else f" with seed {result.seed}"
        raise BadInput(
            f"{result.variant}{seed} has accuracy {result.test:.4f} on the test set, "
            f"above {suspicious}: a linear model can't be that good on this data; look "
            "for test images in the training data."
        )


def _kept(variant: str, seed: int, mark: str) -> Repeat:
    kept = repeats.load(variant, seed, mark)
    if kept and kept.diverged:
        raise BadInput(
            f"{variant} diverges with seed {seed}; make its `learning_rate` smaller."
        )
    if not kept:
        raise BadInput(
            f"{variant} has not been trained with seed {seed} on this data by this "
            f"code; run `python -m tasks.retrain {variant} {seed}`, or all of them by "
            "`python -m flows.seeds`."
        )
    return kept


def main() -> None:
    """Summarize what is kept in the project's folders."""
    parser = cli.parser(__doc__)
    parser.add_argument("seeds", metavar="N", type=int, help="how many seeds")
    number = parser.parse_args().seeds
    if number < 1:
        raise BadInput(f"The number of seeds is {number}; give one from 1 up.")
    marks = repeats.marks()
    valid, test = splits.load(NORMALIZED, "valid"), splits.load(NORMALIZED, "test")
    baseline = model_file.load(MODELS / f"{BASELINE}.safetensors")
    report = spread(
        {
            BASELINE: [repeats.measure(baseline, valid, test, BASELINE)],
            **{
                name: [_kept(name, seed, mark) for seed in range(number)]
                for name, mark in marks.items()
            },
        },
        valid.labels,
        load("report", ReportedResults, dataset_card.selected()).suspicious,
    )
    repeats.refuse_change(marks)
    files.write_json(REPORT, {"recipes": repeats.recipes(), **report})
    for name, figures in report["models"].items():
        mean, deviation = figures["test"].values()
        more = "" if deviation is None else f" +- {deviation:.4f}"
        print(f"{name}: accuracy {mean:.4f}{more} on the test set")


if __name__ == "__main__":
    cli.run(main)
