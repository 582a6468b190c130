import numpy as np
import pytest

from tasks import compare_seeds
from tasks.runtime.params import BadInput
from tasks.trials.trial import Trial


def trial(right, test=0.9):
    """A trial whose images are correct (1) or wrong (0)."""
    correct = rows(right)[0]
    return Trial(
        architecture="linear",
        valid=float(correct.mean()),
        test=test,
        images=len(correct),
        packed=np.packbits(correct).tobytes(),
    )


def rows(*texts):
    """Rows of correct (1) and wrong (0)."""
    return np.array([[digit == "1" for digit in text] for text in texts])


def test_sd_is_the_sample_standard_deviation():
    values = [0.91, 0.92, 0.9, 0.915]
    assert compare_seeds.mean_and_sd(values) == {
        "mean": round(np.mean(values), 7),
        "sd": round(np.std(values, ddof=1), 7),
    }
    assert compare_seeds.mean_and_sd([1, 3]) == {"mean": 2, "sd": 1.4142136}
    assert compare_seeds.mean_and_sd([0.9]) == {"mean": 0.9, "sd": None}


def test_models_are_compared_by_image_and_by_seed():
    # With the first seed, 4 images are correct only in `one`, and 1 only in `other`. 12
    # of the 32 outcomes of 5 coin tosses are at least as uneven: p = 0.375.
    one = rows("11110011", "11111111")
    other = rows("00001011", "11111100")
    assert compare_seeds.compare(one, other) == {
        "difference": 0.3125,  # of 3/8 and 2/8
        "sd": 0.0883883,  # (1/8) / sqrt(2)
        "only_one_right": 4,
        "only_other_right": 1,
        "p_value": 0.375,
    }


def test_equal_models_have_a_p_value_of_1():
    assert compare_seeds.compare(rows("1100"), rows("1100")) == {
        "difference": 0,
        "sd": None,
        "only_one_right": 0,
        "only_other_right": 0,
        "p_value": 1,
    }


def test_single_trial_is_compared_with_every_seed():
    compared = compare_seeds.compare(rows("1110"), rows("1100", "0000"))
    assert compared["difference"] == 0.5
    assert compared["sd"] == 0.3535534


def test_report_has_every_model_and_every_pair():
    good, bad = "11111111", "11110000"
    report = compare_seeds.compare_seeds(
        {
            "baseline": {None: trial(good)},
            "sgd": {0: trial(bad), 1: trial(good, test=0.92)},
        },
        suspicious=0.95,
    )
    assert report == {
        "models": {
            "baseline": {
                "n": 1,
                "valid": {"mean": 1, "sd": None},
                "test": {"mean": 0.9, "sd": None},
            },
            "sgd": {
                "n": 2,
                "valid": {"mean": 0.75, "sd": 0.3535534},
                "test": {"mean": 0.91, "sd": 0.0141421},
            },
        },
        "pairs": [
            {
                "one": "baseline",
                "other": "sgd",
                "difference": 0.25,
                "sd": 0.3535534,
                "only_one_right": 4,
                "only_other_right": 0,
                "p_value": 0.125,
            }
        ],
    }


def test_suspiciously_good_linear_model_is_refused():
    fine = trial("1111", test=0.93)
    compare_seeds.compare_seeds({"sgd": {0: fine}}, 0.93)
    with pytest.raises(
        BadInput,
        match="sgd with seed 1 has accuracy 0.9301 on the test set, above 0.93",
    ):
        compare_seeds.compare_seeds(
            {"sgd": {0: fine, 1: trial("1111", test=0.9301)}}, 0.93
        )
    with pytest.raises(BadInput, match="^baseline has accuracy 0.99"):
        compare_seeds.compare_seeds({"baseline": {None: trial("1111", 0.99)}}, 0.93)


def test_limit_applies_to_linear_models_if_it_is_known():
    good = trial("1111", test=0.99)
    cnn = good.model_copy(update={"architecture": "cnn"})
    compare_seeds.compare_seeds({"cnn": {0: cnn}}, 0.93)
    compare_seeds.compare_seeds({"sgd": {0: good}}, None)


def test_diverged_training_is_refused():
    diverged = Trial(architecture="linear", diverged=True)
    with pytest.raises(BadInput, match="sgd with seed 1 diverged"):
        compare_seeds.compare_seeds({"sgd": {0: trial("1111"), 1: diverged}}, None)
