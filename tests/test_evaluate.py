import math

import numpy as np
import pytest

from tasks import metrics
from tasks.evaluate import evaluate
from tasks.models import Description, Model
from tasks.settings import BadInput
from tasks.splits import Scale, Split

SCALE = Scale(divisor=256, mean=0, std=1)


def model(weights: list[list[float]], **parameters) -> Model:
    """A model of two classes on images of two pixels."""
    return Model(
        weights=np.float32(weights),
        bias=np.zeros(2, np.float32),
        description=Description(
            link="softmax", scale=SCALE, classes=(0, 1), parameters=parameters
        ),
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
    result = evaluate({"bad": BAD, "good": GOOD}, SPLITS)
    assert result.metrics["best"] == "good"
    assert result.metrics["models"]["good"]["valid"]["accuracy"] == 1
    assert result.metrics["models"]["bad"]["valid"]["accuracy"] == 0
    assert result.metrics["models"]["bad"].keys() == {"train", "valid"}
    tested = result.confusion.query("split == 'test'")
    assert set(tested["model"]) == {"good"}
    assert tested["images"].tolist() == [3, 0, 0, 1]


def test_a_model_that_does_not_know_a_label_is_refused():
    other = SPLITS | {"train": split(0, 1)._replace(labels=np.uint8([0, 2]))}
    with pytest.raises(BadInput, match="Model good has no class 2, which is the label"):
        evaluate({"good": GOOD}, other)


def test_of_two_best_the_first_is_chosen():
    assert evaluate({"a": GOOD, "b": SAME}, SPLITS).metrics["best"] == "a"


def test_metrics_are_those_of_the_predictions():
    result = evaluate({"good": GOOD}, SPLITS)
    images, labels = SPLITS["train"]
    assert result.metrics["models"]["good"]["train"] == metrics.summary(
        labels, GOOD.log_probabilities(images), (0, 1)
    )
    assert result.metrics["test"]["log_loss"] == pytest.approx(
        -math.log(SURE), abs=1e-6
    )


def test_predictions_have_a_row_for_each_validation_image():
    table = evaluate({"good": GOOD, "bad": BAD}, SPLITS).predictions
    assert table["label"].tolist() == [1, 0]
    assert table["good"].tolist() == [1, 0]
    assert table["bad"].tolist() == [0, 1]
    assert table["good_probability"].tolist() == pytest.approx([SURE, SURE])
    assert table.index.tolist() == [0, 1]


def test_classes_have_precision_and_recall():
    table = evaluate({"good": GOOD, "bad": BAD}, SPLITS).classes
    train = table.query("split == 'train'").set_index(["model", "label"])
    assert train["precision"].to_dict() == {
        ("good", 0): 1,
        ("good", 1): 1,
        ("bad", 0): 0,
        ("bad", 1): 0,
    }
    assert train["images"].tolist() == [1, 2, 1, 2]


def test_the_update_by_hand_is_compared_with_the_optimizer_of_its_parameters():
    by_hand = evaluate({"sgd": GOOD, "hand": SAME, "other": BAD}, SPLITS).metrics[
        "by_hand"
    ]
    assert by_hand == {
        "hand": {"optimizer": "sgd", "same_predictions": 1.0, "largest_difference": 0.0}
    }


def test_a_difference_between_them_is_seen():
    off = model([[2, 0], [0, 2.5]], update="manual", seed=1)
    by_hand = evaluate({"sgd": GOOD, "hand": off}, SPLITS).metrics["by_hand"]
    assert by_hand["hand"]["largest_difference"] == 0.5
