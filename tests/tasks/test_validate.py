"""Good data pass, and each single corruption fails with its own message."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import KIND, RANGES

from tasks.dataset.splits import Split
from tasks.runtime.params import BadInput
from tasks.validate import Report, Validate, complaint, main, validate

REPORT = Path("reports/validation.json")


@dataclass
class Data:
    """The four arrays, to be spoilt by a test."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@pytest.fixture
def data(digits: dict[str, np.ndarray]) -> Data:
    return Data(*(values.copy() for values in digits.values()))


@pytest.fixture
def section(card: dict) -> dict:
    """The real dataset card, changed to what scikit-learn's digits are."""
    return card["validate"] | RANGES


@pytest.fixture
def check(section: dict) -> Callable[[Data], Report]:
    def check(data: Data) -> Report:
        return validate(
            Split(data.train_images, data.train_labels),
            Split(data.test_images, data.test_labels),
            KIND,
            Validate.model_validate(section),
        )

    return check


def test_good_data_pass_and_are_described(data, check):
    report = check(data)
    assert report.passed
    assert report.failed == {}
    assert report.failures == []
    assert list(report.splits) == ["train", "test"]
    assert report.splits["test"] == {
        "images": 300,
        "distinct": 300,
        "leaks": 0,
        "mean_ink_min": 33.9796,
        "mean_ink_max": 72.2411,
        "lit_share_min": 0.1837,
        "lit_share_max": 0.4477,
        "brightest_min": 224,
        "brightest_max": 255,
        "per_class": [30, 29, 30, 29, 31, 32, 29, 29, 29, 32],
    }


def pixels_of_four_bytes(data: Data) -> None:
    data.train_images = data.train_images.astype(np.int32)


def labels_of_eight_bytes(data: Data) -> None:
    data.test_labels = data.test_labels.astype(np.int64)


def a_column_of_pixels_cut_off(data: Data) -> None:
    data.test_images = data.test_images[:, :, :27]


def labels_one_hot(data: Data) -> None:
    data.train_labels = np.eye(10, dtype=np.uint8)[data.train_labels]


def an_image_missing_with_its_label(data: Data) -> None:
    data.train_images = data.train_images[:-1]
    data.train_labels = data.train_labels[:-1]


def a_label_missing(data: Data) -> None:
    data.test_labels = data.test_labels[:-1]


def a_label_of_ten(data: Data) -> None:
    data.train_labels[5] = 10


def a_class_taken_for_another(data: Data) -> None:
    data.test_labels[data.test_labels == 8] = 9


def an_image_blank(data: Data) -> None:
    data.train_images[7] = 0


def an_image_washed_out(data: Data) -> None:
    data.test_images[2] = np.minimum(data.test_images[2], 200)


def an_image_of_too_much_ink(data: Data) -> None:
    data.train_images[8][data.train_images[8] > 0] = 255


def an_image_of_too_few_pixels(data: Data) -> None:
    data.train_images[6] = 0
    data.train_images[6, :4] = 255


def an_image_twice(data: Data) -> None:
    data.train_images[9] = data.train_images[3]


def a_test_image_in_the_training_set(data: Data) -> None:
    data.test_images[4] = data.train_images[11]


@pytest.mark.parametrize(
    ("spoil", "rule", "failures"),
    [
        (
            pixels_of_four_bytes,
            "pixels and labels are uint8",
            [("dtype", "train", "images", "int32")],
        ),
        (
            labels_of_eight_bytes,
            "pixels and labels are uint8",
            [("dtype", "test", "labels", "int64")],
        ),
        (
            a_column_of_pixels_cut_off,
            "an image has the shape (28, 28), a label ()",
            [("shape", "test", "images", "(28, 27)")],
        ),
        (
            labels_one_hot,
            "an image has the shape (28, 28), a label ()",
            [("shape", "train", "labels", "(10,)")],
        ),
        (
            an_image_missing_with_its_label,
            "files of train have 1400 entries, of test 300",
            [("count", "train", "images", 1399), ("count", "train", "labels", 1399)],
        ),
        (
            a_label_missing,
            "files of train have 1400 entries, of test 300",
            [("count", "test", "labels", 299)],
        ),
        (a_label_of_ten, "a label is 0 to 9", [("label", "train", 5, 10)]),
        (
            a_class_taken_for_another,
            "a class's share of its split is 0.09 to 0.11",
            [
                ("class_share", "test", 8, 0),
                ("class_share", "test", 9, pytest.approx(61 / 300)),
            ],
        ),
        (
            an_image_washed_out,
            "an image's brightest pixel is 220 to 255",
            [("brightest", "test", 2, 200)],
        ),
        (
            an_image_of_too_much_ink,
            "an image's mean pixel is 30 to 80",
            [("mean_ink", "train", 8, pytest.approx(342 / 784 * 255))],
        ),
        (
            an_image_of_too_few_pixels,
            "an image's share of pixels above 0 is 0.18 to 0.5",
            [("lit_share", "train", 6, pytest.approx(4 / 28))],
        ),
        (
            an_image_twice,
            "no image is twice in its split",
            [("repeats", "train", 9, 3)],
        ),
        (
            a_test_image_in_the_training_set,
            "no test image is in the training set",
            [("leaks", "test", 4, 11)],
        ),
    ],
)
def test_each_corruption_fails_with_its_own_message(data, check, spoil, rule, failures):
    spoil(data)
    report = check(data)
    assert not report.passed
    assert {failure.pop("rule") for failure in report.failures} == {rule}
    assert [tuple(failure.values()) for failure in report.failures] == failures
    assert report.failed == {failures[0][0]: len(failures)}


def test_a_blank_image_breaks_the_ranges_of_ink_too(data, check):
    an_image_blank(data)
    report = check(data)
    assert report.failed == {"blank": 1, "mean_ink": 1, "lit_share": 1, "brightest": 1}
    assert report.failures[0] == {
        "check": "blank",
        "rule": "no image is blank",
        "split": "train",
        "row": 7,
        "value": True,
    }


def test_all_faults_are_reported_at_once_with_row_and_value(data, check):
    for spoil in (
        a_column_of_pixels_cut_off,
        an_image_missing_with_its_label,
        a_label_of_ten,
        an_image_blank,
        an_image_of_too_much_ink,
        an_image_twice,
    ):
        spoil(data)
    found = [
        tuple(failure[key] for key in failure if key != "rule")
        for failure in check(data).failures
    ]
    assert found == [
        ("count", "train", "images", 1399),
        ("count", "train", "labels", 1399),
        ("shape", "test", "images", "(28, 27)"),
        ("label", "train", 5, 10),
        ("blank", "train", 7, True),
        ("mean_ink", "train", 7, 0),
        ("mean_ink", "train", 8, pytest.approx(342 / 784 * 255)),
        ("lit_share", "train", 7, 0),
        ("brightest", "train", 7, 0),
        ("repeats", "train", 9, 3),
    ]


def test_a_split_that_cannot_be_read_is_not_described(data, check):
    labels_one_hot(data)
    assert list(check(data).splits) == ["test"]


def test_a_complaint_is_one_sentence_with_the_counts_and_the_first_failure(data, check):
    an_image_of_too_much_ink(data)
    an_image_twice(data)
    assert complaint(check(data)) == (
        "data/raw breaks its dataset card; failures by check: "
        "mean_ink 1, repeats 1; the first: an image's mean pixel is 30 to 80, but in "
        "split train, row 8 `mean_ink` is 111.237; see reports/validation.json."
    )


@pytest.fixture
def project(
    raw: Path,
    section: dict,
    card: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A project's folder with the small data set, as the working directory."""
    (tmp_path / "data").mkdir()
    raw.rename(tmp_path / "data" / "raw")
    (tmp_path / "params.yaml").write_text("dataset: mnist")
    (tmp_path / "datasets").mkdir()
    text = yaml.safe_dump(card | {"validate": section})
    (tmp_path / "datasets" / "mnist.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["validate"])
    return tmp_path


@pytest.mark.usefixtures("project")
def test_the_step_writes_its_report_the_same_each_time(data, check, capsys):
    main()
    first = REPORT.read_bytes()
    main()
    assert REPORT.read_bytes() == first
    assert json.loads(first) == check(data).__dict__
    assert capsys.readouterr().out.startswith("train 1400, test 300; every image")


def test_the_step_writes_its_report_before_it_stops_the_pipeline(project):
    path = project / "data" / "raw" / "train-labels-idx1-ubyte"
    content = bytearray(path.read_bytes())
    content[8 + 5] = 10  # after the header's 8 bytes
    path.write_bytes(content)
    with pytest.raises(BadInput, match="in split train, row 5 `label` is 10; see"):
        main()
    report = json.loads(REPORT.read_bytes())
    assert not report["passed"]
    assert report["failed"] == {"label": 1}
    assert report["failures"][0]["value"] == 10
