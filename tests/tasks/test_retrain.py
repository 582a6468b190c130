import numpy as np
import pytest
from tiny import digits

from tasks.retrain import changed, retrain
from tasks.runtime.params import BadInput
from tasks.train import train
from tasks.training.settings import Train, Variant
from tasks.trials.trial import Trial

SETTINGS = Train(
    seed=0,
    epochs=1,
    batch_size=64,
    device="cpu",
    variants={
        "autograd": Variant(layer="scratch", update="sgd", learning_rate=0.01),
        "analytic": Variant(
            layer="scratch", gradient="analytic", update="manual", learning_rate=0.01
        ),
    },
)


def with_seed(seed, **changes):
    return changed(SETTINGS, "autograd", seed, changes)


def test_trial_measures_the_model_trained_with_the_seed():
    splits, facts = digits()
    trial = retrain(splits, facts, with_seed(5), "autograd")
    settings = SETTINGS.model_copy(update={"seed": 5})
    model, _ = train(splits["train"], splits["valid"], facts, settings, "autograd")
    correct = {
        name: model.predict(split.images) == split.labels
        for name, split in splits.items()
    }
    assert np.array_equal(trial.correct, correct["valid"])
    assert trial.valid == correct["valid"].mean()
    assert trial.test == correct["test"].mean()


def test_trials_differ_only_by_their_seeds():
    one, again, other = (
        retrain(*digits(), with_seed(seed), "autograd") for seed in (5, 5, 6)
    )
    assert one == again
    assert one.packed != other.packed


def test_test_split_is_measured_only_if_it_is_given():
    splits, facts = digits()
    some = {name: splits[name] for name in ("train", "valid")}
    trial = retrain(some, facts, with_seed(0), "autograd")
    assert trial.test is None
    assert trial.valid is not None


def test_diverged_training_is_a_trial():
    settings = with_seed(0, learning_rate=1e30, batch_size=None)
    trial = retrain(*digits(), settings, "autograd")
    assert trial == Trial(architecture="linear", diverged=True)


def test_changes_replace_the_settings_of_the_variant():
    new = with_seed(3, learning_rate=0.5, batch_size=16)
    assert new.seed == 3
    assert new.resolve("autograd").learning_rate == 0.5
    assert new.resolve("autograd").batch_size == 16
    assert new.variants["analytic"] == SETTINGS.variants["analytic"]


@pytest.mark.parametrize(
    ("variant", "seed", "changes", "reason"),
    [
        ("analytical", 1, {}, "has no 'analytical'; it has autograd, analytic"),
        ("analytic", -1, {}, "`seed` can't be -1"),
        (
            "analytic",
            0,
            {"learning_rate": -1},
            r"`variants.analytic.learning_rate` can't be -1",
        ),
    ],
)
def test_invalid_settings_are_refused(variant, seed, changes, reason):
    with pytest.raises(BadInput, match=reason):
        changed(SETTINGS, variant, seed, changes)
