import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch
import yaml
from samples import ROOT
from sklearn.linear_model import LogisticRegression
from tiny import digits

from tasks.baseline import Baseline, baseline
from tasks.dataset import splits
from tasks.dataset.splits import Split
from tasks.modeling import model_file
from tasks.modeling.model_file import Model
from tasks.runtime.params import BadInput

SETTINGS = Baseline(solver="lbfgs", C_images=50, device="cpu", max_iter=1000, tol=1e-4)


@cache
def fitted(solver: str = "lbfgs") -> Model:
    splits_by_name, facts = digits()
    settings = SETTINGS.model_copy(update={"solver": solver})
    return baseline(splits_by_name["train"], facts, settings)


def regression(solver: str, images: int) -> LogisticRegression:
    return LogisticRegression(solver=solver, C=50 / images, max_iter=1000, tol=1e-4)


def test_saved_model_predicts_like_scikit_learn(tmp_path):
    splits_by_name, facts = digits()
    train, valid = splits_by_name["train"], splits_by_name["valid"]
    model_file.save(fitted(), tmp_path / "model")
    model = model_file.load(tmp_path / "model")
    expected = regression("lbfgs", len(train.images)).fit(
        facts.scale.standardize(train.images), train.labels
    )
    np.testing.assert_allclose(
        np.exp(model.log_probabilities(valid.images)),
        expected.predict_proba(facts.scale.standardize(valid.images)),
        atol=1e-4,
    )
    assert np.mean(model.predict(valid.images) == valid.labels) > 0.85


def test_liblinear_fits_each_class_against_the_others():
    splits_by_name, facts = digits()
    train = splits_by_name["train"]
    X = facts.scale.standardize(train.images)
    expected = regression("liblinear", len(X)).fit(X, train.labels == 9)
    weights = fitted("liblinear").tensors["weights"]
    np.testing.assert_allclose(weights[:, 9], expected.coef_[0], atol=1e-6)


def test_description_records_settings_and_data():
    _, facts = digits()
    description = fitted().description
    assert description.parameters == SETTINGS.model_dump()
    assert description.scale == facts.scale
    assert description.form == facts.form
    assert description.classes == tuple("0123456789")


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_array_api_dispatch_gives_the_same_model(tmp_path):
    """The code for the GPU; without a GPU, `auto` runs it in torch on the CPU."""
    splits_by_name, facts = digits()
    splits.save(tmp_path / "data" / "normalized", splits_by_name, facts)
    params = {"baseline": SETTINGS.model_copy(update={"device": "auto"}).model_dump()}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run(
        [sys.executable, "-m", "tasks.baseline"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    model = model_file.load(tmp_path / "models" / "baseline.safetensors")
    np.testing.assert_allclose(
        model.tensors["weights"], fitted().tensors["weights"], atol=5e-3
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_device_is_refused():
    splits_by_name, facts = digits()
    settings = SETTINGS.model_copy(update={"device": "cuda"})
    with pytest.raises(BadInput, match=r"`baseline.device` is 'cuda'"):
        baseline(splits_by_name["train"], facts, settings)


def test_class_without_training_images_is_refused():
    splits_by_name, facts = digits()
    train = splits_by_name["train"]
    some = Split(*(values[train.labels != 3] for values in train))
    with pytest.raises(BadInput, match=r"training images shows 3; make `normalize.val"):
        baseline(some, facts, SETTINGS)


@pytest.mark.parametrize("solver", ["lbfgs", "liblinear"])
def test_model_of_two_classes_predicts_like_scikit_learn(solver):
    splits_by_name, facts = digits()
    train = splits_by_name["train"]
    two = Split(*(values[train.labels < 2] for values in train))
    facts = facts.model_copy(update={"classes": ("circle", "stroke")})
    settings = SETTINGS.model_copy(update={"solver": solver})
    model = baseline(two, facts, settings)
    X = facts.scale.standardize(two.images)
    np.testing.assert_allclose(
        np.exp(model.log_probabilities(two.images)),
        regression(solver, len(X)).fit(X, two.labels).predict_proba(X),
        atol=1e-4,
    )
