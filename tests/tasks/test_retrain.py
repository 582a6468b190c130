import numpy as np
import pytest
from small import lay_out

from tasks.retrain import changed, retrain
from tasks.runtime.params import BadInput, load
from tasks.train import train
from tasks.training.settings import Train
from tasks.trials.trial import Trial


@pytest.fixture
def settings(tmp_path, parts, params, monkeypatch):
    monkeypatch.chdir(lay_out(tmp_path, parts, params))
    return load("train", Train)


def with_seed(settings, seed, **changes):
    return changed(settings, "autograd", seed, changes)


def test_a_trial_measures_the_model_that_train_makes_with_that_seed(settings, parts):
    by_name, facts = parts
    trial = retrain(by_name, facts, with_seed(settings, 5), "autograd")
    model, _ = train(
        by_name["train"],
        by_name["valid"],
        facts,
        settings.model_copy(update={"seed": 5}),
        "autograd",
    )
    correct = {
        name: model.predict(split.images) == split.labels
        for name, split in by_name.items()
    }
    assert np.array_equal(trial.correct, correct["valid"])
    assert trial.valid == correct["valid"].mean()
    assert trial.test == correct["test"].mean()


def test_the_seed_alone_decides_between_two_trials(settings, parts):
    one, again, other = (
        retrain(*parts, with_seed(settings, seed), "autograd") for seed in (5, 5, 6)
    )
    assert one == again
    assert one.packed != other.packed


def test_the_test_set_is_measured_only_if_it_is_given(settings, parts):
    by_name, facts = parts
    some = {name: by_name[name] for name in ("train", "valid")}
    trial = retrain(some, facts, with_seed(settings, 0), "autograd")
    assert trial.test is None
    assert trial.valid > 0.5


def test_a_training_that_diverges_is_a_trial(settings, parts):
    changes = with_seed(settings, 0, learning_rate=1e30, batch_size=None)
    trial = retrain(*parts, changes, "autograd")
    assert trial == Trial(architecture="linear", diverged=True)


def test_changes_replace_the_variants_own_settings(settings):
    new = with_seed(settings, 3, learning_rate=0.5, batch_size=16)
    assert new.seed == 3
    assert new.resolve("autograd").learning_rate == 0.5
    assert new.resolve("autograd").batch_size == 16
    assert new.variants["analytic"] == settings.variants["analytic"]


@pytest.mark.parametrize(
    ("variant", "seed", "changes", "sentence"),
    [
        ("analytical", 1, {}, "has no 'analytical'; it has autograd, analytic"),
        ("analytic", -1, {}, "The seed is -1; give one from 0 up"),
        ("analytic", 0, {"learning_rate": -1}, "analytic can't have learning_rate -1"),
    ],
)
def test_invalid_settings_are_refused(settings, variant, seed, changes, sentence):
    with pytest.raises(BadInput, match=sentence):
        changed(settings, variant, seed, changes)
