import math

import numpy as np
import pytest
from conftest import ROOT, facts

from tasks.baseline import Baseline, baseline
from tasks.dataset.splits import Split
from tasks.evaluate import Evaluate, evaluate, selection_sentence
from tasks.evaluation import metrics, metrics_file
from tasks.modeling.model_file import Description, Model, calibrated
from tasks.runtime.params import BadInput

FACTS = facts((1, 2), 2, mean=0, std=1)
SETTINGS = Evaluate(max_error=0.5)


def model(weights: list[list[float]], **parameters) -> Model:
    """A model of two classes on images of two pixels."""
    return Model(
        tensors={"weights": np.float32(weights), "bias": np.zeros(2, np.float32)},
        description=Description(**dict(FACTS), link="softmax", parameters=parameters),
    )


def split(*labels: int) -> Split:
    """Images of which the pixel of the label is lit."""
    images = np.zeros((len(labels), 1, 2), np.uint8)
    images[np.arange(len(labels)), 0, labels] = 128
    return Split(images, np.uint8(labels))


GOOD = model([[2, 0], [0, 2]], update="sgd", gradient="autograd", seed=1)
SAME = model([[2, 0], [0, 2]], update="manual", seed=1)
BAD = model([[0, 2], [2, 0]], update="manual", seed=2)
SPLITS = {"train": split(0, 1, 1), "valid": split(1, 0), "test": split(0, 0, 0, 1)}
SURE = math.e / (math.e + 1)


def test_the_best_on_validation_is_tested_and_no_other():
    result = evaluate({"bad": BAD, "good": GOOD}, SPLITS, SETTINGS)
    assert result.metrics["best"] == "good"
    assert result.metrics["models"]["good"]["valid"]["accuracy"] == 1
    assert result.metrics["models"]["bad"]["valid"]["accuracy"] == 0
    assert result.metrics["models"]["bad"].keys() == {"train", "valid", "kept"}
    tested = result.confusion.query("split == 'test'")
    assert set(tested["model"]) == {"good"}
    assert tested["images"].tolist() == [3, 0, 0, 1]


def test_a_model_that_does_not_know_a_label_is_refused():
    other = SPLITS | {"train": split(0, 1)._replace(labels=np.uint8([0, 2]))}
    with pytest.raises(
        BadInput, match="have 2 classes, but the label of an image is 2"
    ):
        evaluate({"good": GOOD}, other, SETTINGS)


def test_of_two_best_the_first_is_chosen():
    assert evaluate({"a": GOOD, "b": SAME}, SPLITS, SETTINGS).metrics["best"] == "a"


def test_metrics_are_those_of_the_predictions():
    result = evaluate({"good": GOOD}, SPLITS, SETTINGS)
    images, labels = SPLITS["train"]
    assert result.metrics["models"]["good"]["train"] == metrics.summary(
        labels, GOOD.log_probabilities(images), ("0", "1")
    )
    assert result.metrics["test"]["log_loss"] == pytest.approx(
        -math.log(SURE), abs=1e-6
    )


def test_predictions_have_a_row_for_each_validation_image():
    table = evaluate({"good": GOOD, "bad": BAD}, SPLITS, SETTINGS).predictions
    assert table["label"].tolist() == ["1", "0"]
    assert table["good"].tolist() == ["1", "0"]
    assert table["bad"].tolist() == ["0", "1"]
    assert table["good_probability"].tolist() == pytest.approx([SURE, SURE])
    assert table.index.tolist() == [0, 1]


def test_classes_have_precision_and_recall():
    table = evaluate({"good": GOOD, "bad": BAD}, SPLITS, SETTINGS).classes
    train = table.query("split == 'train'").set_index(["model", "label"])
    assert train["precision"].to_dict() == {
        ("good", "0"): 1,
        ("good", "1"): 1,
        ("bad", "0"): 0,
        ("bad", "1"): 0,
    }
    assert train["images"].tolist() == [1, 2, 1, 2]


def test_the_update_by_hand_is_compared_with_the_optimizer_of_its_parameters():
    by_hand = evaluate(
        {"sgd": GOOD, "hand": SAME, "other": BAD}, SPLITS, SETTINGS
    ).metrics["by_hand"]
    assert by_hand == {
        "hand": {"optimizer": "sgd", "same_predictions": 1.0, "largest_difference": 0.0}
    }


def test_a_difference_between_them_is_seen():
    off = model([[2, 0], [0, 2.5]], update="manual", seed=1)
    by_hand = evaluate({"sgd": GOOD, "hand": off}, SPLITS, SETTINGS).metrics["by_hand"]
    assert by_hand["hand"]["largest_difference"] == 0.5


def test_the_less_certain_are_set_aside_so_that_few_of_the_rest_are_wrong(parts):
    by_name, about = parts
    few = Split(*(values[:200] for values in by_name["train"]))
    # In their own order, the last images are those of other hands.
    order = np.random.default_rng(0).permutation(600)
    images, labels = (
        np.concatenate([by_name["valid"][kind], by_name["test"][kind]])[order]
        for kind in (0, 1)
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
    found = evaluate({"baseline": fitted}, by_name, Evaluate(max_error=0.1)).metrics
    selection = found["models"]["baseline"]["kept"]
    # Without a threshold more would be wrong, so this says something.
    assert found["test"]["accuracy"] < 0.93
    assert 0 < selection["test"]["set_aside"] < 0.6
    assert selection["valid"]["error"] <= 0.1
    assert selection["test"]["error_low"] <= 0.1
    assert selection_sentence(selection, 0.1).endswith(" % wrong")


def test_on_mnist_the_promise_holds_on_the_test_images():
    found = metrics_file.read(ROOT / "reports" / "metrics.json")
    kept = found["models"][found["best"]]["kept"]["test"]
    assert kept["error_low"] <= found["max_error"]
    assert 0 < kept["set_aside"] < 0.5


def test_a_promise_that_can_not_be_made_is_told():
    found = evaluate({"good": GOOD}, SPLITS, SETTINGS).metrics["models"]["good"]
    assert found["kept"]["threshold"] is None
    assert found["kept"]["test"]["set_aside"] == 1
    assert selection_sentence(found["kept"], 0.5) == (
        "an error of 0.5 can be promised of none of its predictions"
    )


def test_adam_by_hand_is_compared_with_adam():
    adam = model([[2, 0], [0, 2]], update="adam", gradient="autograd", seed=1)
    hand = model([[2, 0], [0, 3]], update="manual_adam", gradient="autograd", seed=1)
    found = evaluate({"adam": adam, "hand": hand}, SPLITS, SETTINGS).metrics["by_hand"]
    assert found["hand"]["optimizer"] == "adam"
    assert found["hand"]["largest_difference"] == 1
