import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from sklearn.linear_model import LogisticRegression

from tasks.baseline import Baseline, baseline
from tasks.dataset import splits
from tasks.dataset.splits import Split
from tasks.modeling import model_file
from tasks.runtime.params import BadInput

SETTINGS = Baseline(solver="lbfgs", C_images=50, device="cpu", max_iter=1000, tol=1e-4)


@pytest.mark.parametrize("solver", ["lbfgs", "liblinear"])
def test_the_saved_model_says_what_scikit_learn_says(tmp_path, parts, solver):
    splits_, facts = parts
    settings = SETTINGS.model_copy(update={"solver": solver})
    model_file.save(baseline(splits_["train"], facts, settings), tmp_path / "model")
    model = model_file.load(tmp_path / "model")

    X = facts.scale.standardize(splits_["train"].images)
    regression = LogisticRegression(
        solver=solver, C=50 / len(X), max_iter=1000, tol=1e-4
    )
    if solver == "liblinear":
        # Of one class against the others, as it is defined; 0 and 9 stand for all.
        for label in (0, 9):
            regression.fit(X, splits_["train"].labels == label)
            np.testing.assert_allclose(
                model.weights[:, label], regression.coef_[0], atol=1e-6
            )
    else:
        regression.fit(X, splits_["train"].labels)
        V = facts.scale.standardize(splits_["valid"].images)
        np.testing.assert_allclose(
            np.exp(model.log_probabilities(splits_["valid"].images)),
            regression.predict_proba(V),
            atol=1e-4,
        )


def test_it_recognizes_most_digits(parts):
    splits_, facts = parts
    model = baseline(splits_["train"], facts, SETTINGS)
    valid = splits_["valid"]
    assert np.mean(model.predict(valid.images) == valid.labels) > 0.85


def test_the_description_says_how_it_was_made(parts):
    splits_, facts = parts
    description = baseline(splits_["train"], facts, SETTINGS).description
    assert description.parameters == SETTINGS.model_dump()
    assert description.scale == facts.scale
    assert description.form == facts.form
    assert description.classes == tuple("0123456789")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_by_array_api_dispatch_it_finds_the_same(tmp_path, parts):
    """The GPU's path, which `auto` takes to torch on the CPU where there is none."""
    splits_, facts = parts
    splits.save(tmp_path / "data" / "normalized", splits_, facts)
    params = {"baseline": SETTINGS.model_copy(update={"device": "auto"}).model_dump()}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run(
        [sys.executable, "-m", "tasks.baseline"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    model = model_file.load(tmp_path / "models" / "baseline.safetensors")
    expected = baseline(splits_["train"], facts, SETTINGS)
    np.testing.assert_allclose(model.weights, expected.weights, atol=5e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_is_refused(parts):
    splits_, facts = parts
    settings = SETTINGS.model_copy(update={"device": "cuda"})
    with pytest.raises(BadInput, match=r"`baseline.device` is 'cuda', but torch finds"):
        baseline(splits_["train"], facts, settings)


def test_a_class_that_no_image_shows_is_refused(parts):
    splits_by_name, facts = parts
    train = splits_by_name["train"]
    some = Split(*(values[train.labels != 3] for values in train))
    with pytest.raises(BadInput, match=r"training images shows 3; make `normalize.val"):
        baseline(some, facts, SETTINGS)


@pytest.mark.parametrize("solver", ["lbfgs", "liblinear"])
def test_of_two_classes_it_says_what_scikit_learn_says(parts, solver):
    splits_by_name, facts = parts
    train = splits_by_name["train"]
    two = Split(*(values[train.labels < 2] for values in train))
    facts = facts.model_copy(update={"classes": ("circle", "stroke")})
    settings = SETTINGS.model_copy(update={"solver": solver})
    model = baseline(two, facts, settings)
    X = facts.scale.standardize(two.images)
    regression = LogisticRegression(
        solver=solver, C=50 / len(X), max_iter=1000, tol=1e-4
    )
    np.testing.assert_allclose(
        np.exp(model.log_probabilities(two.images)),
        regression.fit(X, two.labels).predict_proba(X),
        atol=1e-4,
    )
