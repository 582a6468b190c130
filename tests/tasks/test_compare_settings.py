import numpy as np
import pytest

from tasks.compare_settings import compare_settings, conclusion
from tasks.runtime.params import BadInput
from tasks.training.settings import Train, Variant
from tasks.trials.trial import Trial
from tasks.tuning.grid import Point

DIVERGED = Trial(architecture="linear", diverged=True)
TRAIN = Train(
    seed=0,
    device="cpu",
    epochs=1,
    batch_size=64,
    variants={
        "sgd": Variant(layer="scratch", update="sgd", learning_rate=0.1),
        "adam": Variant(
            layer="sequential", update="adam", learning_rate=0.1, batch_size=32
        ),
    },
)


def trial(valid):
    return Trial(architecture="linear", valid=valid)


def point(variant, rate, size, seed):
    return Point(variant=variant, learning_rate=rate, batch_size=size, seed=seed)


def table(trials):
    return compare_settings(trials, TRAIN)[0]


TRIALS = {
    point("sgd", 0.1, 64, 0): trial(0.9),
    point("sgd", 0.1, 64, 1): trial(0.92),
    point("sgd", 0.3, 64, 0): trial(0.95),
    point("sgd", 0.3, 64, 1): DIVERGED,
    point("adam", 0.1, 32, 0): trial(0.905),
}


def test_row_has_mean_and_sd_over_the_seeds():
    rows = table(TRIALS).to_dict("records")
    assert [tuple(row.values())[:5] for row in rows] == [
        ("sgd", 0.1, 64, 2, 0),
        ("sgd", 0.3, 64, 1, 1),
        ("adam", 0.1, 32, 1, 0),
    ]
    assert [row["mean"] for row in rows] == pytest.approx([0.91, 0.95, 0.905])
    assert rows[0]["sd"] == pytest.approx(np.std([0.9, 0.92], ddof=1), abs=1e-6)
    assert np.isnan(rows[1]["sd"])


def test_best_setting_never_diverged():
    assert "the best is sgd with learning rate 0.1 " in conclusion(table(TRIALS), TRAIN)


def test_first_of_equally_good_settings_is_the_best():
    trials = dict.fromkeys(TRIALS, trial(0.9))
    assert "the best is sgd with learning rate 0.1 " in conclusion(table(trials), TRAIN)


def test_sweep_in_which_every_setting_diverged_is_refused():
    diverged = table(dict.fromkeys(TRIALS, DIVERGED))
    assert diverged["mean"].isna().all()
    with pytest.raises(BadInput, match="All settings diverged"):
        conclusion(diverged, TRAIN)


@pytest.mark.parametrize(
    ("best", "changes"),
    [
        (("sgd", 0.1, 64), []),
        (("sgd", 0.3, 64), ["-S train.variants.sgd.learning_rate=0.3"]),
        (("sgd", 0.1, 32), ["-S +train.variants.sgd.batch_size=32"]),
        (
            ("adam", 1e-05, 64),
            [
                "-S train.variants.adam.learning_rate=1e-05",
                "-S train.variants.adam.batch_size=64",
            ],
        ),
    ],
)
def test_conclusion_ends_with_the_command_for_the_best_setting(best, changes):
    trials = {point("sgd", 1.0, 64, 0): trial(0.9), point(*best, 0): trial(0.99)}
    text = conclusion(table(trials), TRAIN)
    assert text.splitlines()[-1] == " ".join(["dvc exp run", *changes])


def test_conclusion_counts_trainings_and_names_the_best():
    assert conclusion(table(TRIALS), TRAIN) == (
        "5 trainings, 3 settings; the best is sgd with learning rate 0.1 and batch "
        "size 64: accuracy 0.9100 in validation. To run it:\n"
        "dvc exp run"
    )
