import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tasks import models
from tasks.baseline import Baseline, baseline

SETTINGS = Baseline(solver="lbfgs", C_images=50, max_iter=1000, tol=1e-4)


@pytest.mark.parametrize("solver", ["lbfgs", "liblinear"])
def test_the_saved_model_says_what_scikit_learn_says(tmp_path, parts, solver):
    splits, scale = parts
    settings = SETTINGS.model_copy(update={"solver": solver})
    models.save(baseline(splits["train"], scale, settings), tmp_path / "model")
    model = models.load(tmp_path / "model")

    X = scale.standardize(splits["train"].images)
    regression = LogisticRegression(
        solver=solver, C=50 / len(X), max_iter=1000, tol=1e-4
    )
    if solver == "liblinear":
        # Of one class against the others, as it is defined; 0 and 9 stand for all.
        for label in (0, 9):
            regression.fit(X, splits["train"].labels == label)
            np.testing.assert_allclose(
                model.weights[:, label], regression.coef_[0], atol=1e-6
            )
    else:
        regression.fit(X, splits["train"].labels)
        V = scale.standardize(splits["valid"].images)
        np.testing.assert_allclose(
            np.exp(model.log_probabilities(splits["valid"].images)),
            regression.predict_proba(V),
            atol=1e-4,
        )


def test_it_recognizes_most_digits(parts):
    splits, scale = parts
    model = baseline(splits["train"], scale, SETTINGS)
    valid = splits["valid"]
    assert np.mean(model.predict(valid.images) == valid.labels) > 0.85


def test_the_description_says_how_it_was_made(parts):
    splits, scale = parts
    description = baseline(splits["train"], scale, SETTINGS).description
    assert description.parameters == SETTINGS.model_dump()
    assert description.scale == scale
    assert description.classes == tuple(range(10))
