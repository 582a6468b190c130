import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from safetensors.numpy import save_file
from scipy.special import log_softmax, softmax

from tasks import models
from tasks.models import Description, Model
from tasks.settings import BadInput
from tasks.splits import Scale

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (5, 2, 2), dtype=np.uint8)


def model(link: str = "softmax", classes: tuple[int, ...] = (0, 1, 2)) -> Model:
    random = np.random.default_rng(1)
    return Model(
        weights=random.normal(size=(4, len(classes))).astype(np.float32),
        bias=random.normal(size=len(classes)).astype(np.float32),
        description=Description(
            link=link,
            scale=Scale(divisor=256, mean=0.5, std=0.25),
            classes=classes,
            parameters={"solver": "none", "C": 0.5, "steps": [1, 2]},
        ),
    )


def scores(of: Model) -> np.ndarray:
    return ((IMAGES.reshape(5, 4) / 256 - 0.5) / 0.25) @ of.weights + of.bias


def test_what_is_saved_is_loaded(tmp_path):
    models.save(model(), tmp_path / "model.safetensors")
    loaded = models.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.weights, model().weights)
    np.testing.assert_array_equal(loaded.bias, model().bias)
    assert loaded.description == model().description


def test_softmax_probabilities_are_scipys():
    np.testing.assert_allclose(
        model().log_probabilities(IMAGES),
        log_softmax(scores(model()), axis=1),
        rtol=1e-5,
    )


def test_one_vs_rest_probabilities_are_shares_of_logistic_functions():
    ensemble = model("one-vs-rest")
    logistic = 1 / (1 + np.exp(-scores(ensemble)))
    np.testing.assert_allclose(
        np.exp(ensemble.log_probabilities(IMAGES)),
        logistic / logistic.sum(axis=1, keepdims=True),
        rtol=1e-5,
    )


def test_predictions_are_labels_not_columns():
    other = model(classes=(3, 5, 9))
    expected = np.array([3, 5, 9])[softmax(scores(other), axis=1).argmax(axis=1)]
    np.testing.assert_array_equal(other.predict(IMAGES), expected)


def test_log_softmax_does_not_overflow():
    huge = np.array([[1000.0, 0.0], [-1000.0, -1000.0]])
    np.testing.assert_allclose(
        models.log_softmax(huge), [[0, -1000], [-np.log(2), -np.log(2)]]
    )


def test_the_same_model_gives_the_same_bytes_in_any_process(tmp_path):
    program = (
        "import sys; from pathlib import Path; from tests.test_models import model;"
        "from tasks import models; models.save(model(), Path(sys.argv[1]))"
    )
    contents = set()
    for number in range(3):
        path = tmp_path / f"{number}.safetensors"
        subprocess.run(
            [sys.executable, "-c", program, path],
            check=True,
            cwd=ROOT,
            env={
                "PYTHONHASHSEED": str(number),
                "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
            },
        )
        contents.add(path.read_bytes())
    assert len(contents) == 1


def damaged(folder: Path, metadata: dict | None = None, **tensors: np.ndarray) -> Path:
    path = folder / "model.safetensors"
    good = {"weights": model().weights, "bias": model().bias}
    text = model().description.model_dump_json()
    save_file(
        {**good, **tensors}, path, {"model": text} if metadata is None else metadata
    )
    return path


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"metadata": {}}, "is not a model of ours"),
        ({"metadata": {"model": "{}"}}, "is not a model of ours"),
        ({"metadata": {"model": "["}}, "is not a model of ours"),
        ({"bias": np.zeros(2, np.float32)}, "holds .* train it anew"),
        ({"bias": np.zeros(3, np.float64)}, "holds .* train it anew"),
        ({"weights": np.zeros((4, 2), np.float32)}, "holds .* train it anew"),
        ({"weights": np.zeros(4, np.float32)}, "holds .* train it anew"),
        ({"extra": np.zeros(1, np.float32)}, "holds .* train it anew"),
        ({"bias": np.float32([0, np.nan, 0])}, "not finite"),
        ({"weights": np.full((4, 3), np.inf, np.float32)}, "not finite"),
    ],
)
def test_a_file_that_is_not_a_whole_model_is_refused(tmp_path, change, sentence):
    path = damaged(tmp_path, **change)
    with pytest.raises(BadInput, match=sentence):
        models.load(path)


@pytest.mark.parametrize("size", [0, 7, 100])
def test_a_truncated_file_is_refused(tmp_path, size):
    path = damaged(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(BadInput, match="is not a model of ours"):
        models.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        models.load(tmp_path / "none.safetensors")
    assert Path(caught.value.filename) == tmp_path / "none.safetensors"
