import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from sklearn.linear_model import LogisticRegression

from tasks import models, splits
from tasks.baseline import Baseline, baseline
from tasks.settings import BadInput
from tasks.splits import Split

SETTINGS = Baseline(solver="lbfgs", C_images=50, device="cpu", max_iter=1000, tol=1e-4)


@pytest.mark.parametrize("solver", ["lbfgs", "liblinear"])
def test_the_saved_model_says_what_scikit_learn_says(tmp_path, parts, solver):
    splits_, scale = parts
    settings = SETTINGS.model_copy(update={"solver": solver})
    models.save(baseline(splits_["train"], scale, settings), tmp_path / "model")
    model = models.load(tmp_path / "model")

    X = scale.standardize(splits_["train"].images)
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
        V = scale.standardize(splits_["valid"].images)
        np.testing.assert_allclose(
            np.exp(model.log_probabilities(splits_["valid"].images)),
            regression.predict_proba(V),
            atol=1e-4,
        )


def test_it_recognizes_most_digits(parts):
    splits_, scale = parts
    model = baseline(splits_["train"], scale, SETTINGS)
    valid = splits_["valid"]
    assert np.mean(model.predict(valid.images) == valid.labels) > 0.85


def test_the_description_says_how_it_was_made(parts):
    splits_, scale = parts
    description = baseline(splits_["train"], scale, SETTINGS).description
    assert description.parameters == SETTINGS.model_dump()
    assert description.scale == scale
    assert description.classes == tuple(range(10))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_by_array_api_dispatch_it_finds_the_same(tmp_path, parts):
    """The GPU's path, which `auto` takes to torch on the CPU where there is none."""
    splits_, scale = parts
    splits.save(tmp_path / "data" / "normalized", splits_, scale)
    params = {"baseline": SETTINGS.model_copy(update={"device": "auto"}).model_dump()}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run(
        [sys.executable, "-m", "tasks.baseline"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    model = models.load(tmp_path / "models" / "baseline.safetensors")
    expected = baseline(splits_["train"], scale, SETTINGS)
    np.testing.assert_allclose(model.weights, expected.weights, atol=5e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_is_refused(parts):
    splits_, scale = parts
    settings = SETTINGS.model_copy(update={"device": "cuda"})
    with pytest.raises(BadInput, match=r"`baseline.device` is 'cuda', but torch finds"):
        baseline(splits_["train"], scale, settings)


def test_images_of_one_class_alone_are_refused(parts):
    splits_by_name, scale = parts
    train = splits_by_name["train"]
    zeros = Split(*(values[train.labels == 0] for values in train))
    with pytest.raises(BadInput, match="show one class alone; make `normalize.valid"):
        baseline(zeros, scale, SETTINGS)
