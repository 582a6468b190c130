import math

import numpy as np
import pytest
from samples import ROOT, facts
from small import VARIANTS, lay_out

from tasks import evaluate as evaluate_step
from tasks.baseline import Baseline, baseline
from tasks.dataset.splits import Split
from tasks.evaluate import evaluate, selection_sentence
from tasks.evaluation import metrics, metrics_file
from tasks.modeling import model_file
from tasks.modeling.model_file import Description, Model, calibrated
from tasks.runtime.params import BadInput

FACTS = facts((1, 2), 2, mean=0, std=1)
MAX_ERROR = 0.5


def model(weights: list[list[float]], **parameters) -> Model:
    """A linear model of two classes on images of two pixels."""
    return Model(
        tensors={"weights": np.float32(weights), "bias": np.zeros(2, np.float32)},
        description=Description(**dict(FACTS), link="softmax", parameters=parameters),
    )


def split(*labels: int) -> Split:
    """Images whose pixel number `label` is bright."""
    images = np.zeros((len(labels), 1, 2), np.uint8)
    images[np.arange(len(labels)), 0, labels] = 128
    return Split(images, np.uint8(labels))


GOOD = model([[2, 0], [0, 2]], update="sgd", gradient="autograd", seed=1)
SAME = model([[2, 0], [0, 2]], update="manual", seed=1)
BAD = model([[0, 2], [2, 0]], update="manual", seed=2)
SPLITS = {"train": split(0, 1, 1), "valid": split(1, 0), "test": split(0, 0, 0, 1)}
# The probability that both models give to their predictions.
PROBABILITY = math.e / (math.e + 1)


@pytest.fixture(scope="module")
def result():
    return evaluate({"bad": BAD, "good": GOOD}, SPLITS, MAX_ERROR)


@pytest.fixture(scope="module")
def found(result):
    return result[0]


@pytest.fixture(scope="module")
def tables(result):
    return result[1]


def test_only_the_best_model_on_validation_is_tested(found, tables):
    assert found["best"] == "good"
    assert found["models"]["good"]["valid"]["accuracy"] == 1
    assert found["models"]["bad"]["valid"]["accuracy"] == 0
    assert found["models"]["bad"].keys() == {"train", "valid", "kept"}
    assert "test" not in found["models"]["bad"]["kept"]
    tested = tables["confusion"].query("split == 'test'")
    assert set(tested["model"]) == {"good"}
    assert tested["images"].tolist() == [3, 0, 0, 1]


def test_labels_that_no_model_knows_are_refused():
    other = SPLITS | {"train": split(0, 1)._replace(labels=np.uint8([0, 2]))}
    with pytest.raises(BadInput, match="2 classes, but the label of an image is 2"):
        evaluate({"good": GOOD}, other, MAX_ERROR)


def test_first_of_two_equally_good_models_is_best():
    assert evaluate({"a": GOOD, "b": SAME}, SPLITS, MAX_ERROR)[0]["best"] == "a"


def test_metrics_are_computed_from_the_predictions(found):
    images, labels = SPLITS["train"]
    assert found["models"]["good"]["train"] == metrics.summary(
        labels, GOOD.log_probabilities(images), ("0", "1")
    )
    loss = pytest.approx(-math.log(PROBABILITY), abs=1e-6)
    assert found["test"]["log_loss"] == loss


def test_predictions_have_a_row_per_validation_image(tables):
    table = tables["predictions"]
    assert table["index"].tolist() == [0, 1]
    assert table["label"].tolist() == ["1", "0"]
    assert table["good"].tolist() == ["1", "0"]
    assert table["bad"].tolist() == ["0", "1"]
    assert table["good_probability"].tolist() == pytest.approx([PROBABILITY] * 2)


def test_classes_have_precision_and_recall(tables):
    table = tables["classes"]
    train = table.query("split == 'train'").set_index(["model", "label"])
    assert train["precision"].to_dict() == {
        ("good", "0"): 1,
        ("good", "1"): 1,
        ("bad", "0"): 0,
        ("bad", "1"): 0,
    }
    assert train["recall"].tolist() == [0, 0, 1, 1]
    assert train["images"].tolist() == [1, 2, 1, 2]


def test_calibration_table_is_about_validation_images(tables):
    table = tables["calibration"]
    assert table.to_dict("list") == {
        "model": ["bad", "good"],
        "confidence": [pytest.approx(PROBABILITY)] * 2,
        "accuracy": [0, 1],
        "images": [2, 2],
    }


def test_updates_by_hand_are_compared_with_the_optimizer_of_equal_parameters():
    models = {"sgd": GOOD, "hand": SAME, "other": BAD}
    assert evaluate(models, SPLITS, MAX_ERROR)[0]["by_hand"] == {
        "hand": {"optimizer": "sgd", "same_predictions": 1.0, "largest_difference": 0.0}
    }


@pytest.mark.parametrize(("by_hand", "optimizer"), evaluate_step.BY_HAND.items())
def test_differences_between_update_and_optimizer_are_measured(by_hand, optimizer):
    models = {
        "torch": model([[2, 0], [0, 2]], update=optimizer, gradient="autograd", seed=1),
        "hand": model([[2, 0], [0, 2.5]], update=by_hand, seed=1),
    }
    found = evaluate(models, SPLITS, MAX_ERROR)[0]["by_hand"]["hand"]
    assert found["optimizer"] == "torch"
    assert found["largest_difference"] == 0.5


def test_threshold_keeps_the_error_of_accepted_predictions_below_the_limit(parts):
    by_name, about = parts
    few = Split(*(values[:200] for values in by_name["train"]))
    # Shuffled, because other people wrote the last images.
    order = np.random.default_rng(0).permutation(600)
    images, labels = (
        np.concatenate([by_name["valid"][part], by_name["test"][part]])[order]
        for part in (0, 1)
    )
    by_name = {
        "train": few,
        "valid": Split(images[:300], labels[:300]),
        "test": Split(images[300:], labels[300:]),
    }
    settings = Baseline(
        solver="lbfgs", C_images=50, device="cpu", max_iter=1000, tol=1e-4
    )
    fitted = calibrated(baseline(few, about, settings), by_name["valid"])
    found = evaluate({"baseline": fitted}, by_name, 0.1)[0]
    selection = found["models"]["baseline"]["kept"]
    assert found["test"]["accuracy"] < 0.93, "the limit is not reached by chance"
    assert 0 < selection["test"]["set_aside"] < 0.6
    assert selection["valid"]["error"] <= 0.1
    assert selection["test"]["error_low"] <= 0.1
    assert selection_sentence(selection, 0.1).endswith(" % of the others wrong")


def test_error_limit_holds_on_the_test_images_of_mnist():
    found = metrics_file.read(ROOT / "reports" / "metrics.json")
    kept = found["models"][found["best"]]["kept"]["test"]
    assert kept["error_low"] <= found["max_error"]
    assert 0 < kept["set_aside"] < 0.5


def test_models_without_a_threshold_accept_nothing(found):
    selection = found["models"]["good"]["kept"]
    assert selection["threshold"] is None
    assert selection["test"]["set_aside"] == 1
    assert "no threshold" in selection_sentence(selection, 0.5)


def test_step_writes_metrics_and_tables(parts, params, tmp_path, monkeypatch, capsys):
    lay_out(tmp_path, parts, params)
    trained = model_file.load(tmp_path / "models" / "baseline.safetensors")
    for name in VARIANTS:
        model_file.save(trained, tmp_path / "models" / f"{name}.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["evaluate"])
    evaluate_step.main()

    found = metrics_file.read(tmp_path / "reports" / "metrics.json")
    assert list(found["models"]) == ["baseline", *VARIANTS]
    assert "Best is baseline" in capsys.readouterr().out
    tables = {path.stem for path in (tmp_path / "reports").glob("*.csv")}
    assert tables == {"classes", "confusion", "calibration", "predictions"}
