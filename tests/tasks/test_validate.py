"""Valid data passes, and each corruption fails with its own message."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from samples import KIND, RANGES

from tasks.dataset.splits import Split
from tasks.runtime.params import BadInput
from tasks.validate import Report, failure_message, main, validate
from tasks.validation.schemas import DataLimits

REPORT = Path("reports/validation.json")


@dataclass
class Data:
    """The four arrays; a test corrupts them."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@pytest.fixture
def data(digits: dict[str, np.ndarray]) -> Data:
    return Data(*(values.copy() for values in digits.values()))


@pytest.fixture
def section(card: dict) -> dict:
    """MNIST's limits, changed to the ranges of the small digits."""
    return card["validate"] | RANGES


@pytest.fixture
def check(section: dict) -> Callable[[Data], Report]:
    def check(data: Data) -> Report:
        return validate(
            Split(data.train_images, data.train_labels),
            Split(data.test_images, data.test_labels),
            KIND,
            DataLimits.model_validate(section),
        )

    return check


def test_valid_data_passes_and_is_summarized(data, check):
    report = check(data)
    assert report.passed
    assert report.failed == {}
    assert report.failures == []
    assert list(report.splits) == ["train", "test"]
    assert report.splits["test"] == {
        "images": 300,
        "distinct": 300,
        "leaks": 0,
        "mean_pixel_min": 33.9796,
        "mean_pixel_max": 72.2411,
        "foreground_share_min": 0.1837,
        "foreground_share_max": 0.4477,
        "brightest_min": 224,
        "brightest_max": 255,
        "per_class": [30, 29, 30, 29, 31, 32, 29, 29, 29, 32],
    }


def int32_pixels(data: Data) -> None:
    data.train_images = data.train_images.astype(np.int32)


def int64_labels(data: Data) -> None:
    data.test_labels = data.test_labels.astype(np.int64)


def narrow_images(data: Data) -> None:
    data.test_images = data.test_images[:, :, :27]


def one_hot_labels(data: Data) -> None:
    data.train_labels = np.eye(10, dtype=np.uint8)[data.train_labels]


def missing_image_and_label(data: Data) -> None:
    data.train_images = data.train_images[:-1]
    data.train_labels = data.train_labels[:-1]


def missing_label(data: Data) -> None:
    data.test_labels = data.test_labels[:-1]


def unknown_label(data: Data) -> None:
    data.train_labels[5] = 10


def class_labelled_as_another(data: Data) -> None:
    data.test_labels[data.test_labels == 8] = 9


def blank_image(data: Data) -> None:
    data.train_images[7] = 0


def dim_image(data: Data) -> None:
    data.test_images[2] = np.minimum(data.test_images[2], 200)


def image_with_a_high_mean(data: Data) -> None:
    data.train_images[8][data.train_images[8] > 0] = 255


def image_with_few_foreground_pixels(data: Data) -> None:
    data.train_images[6] = 0
    data.train_images[6, :4] = 255


def repeated_image(data: Data) -> None:
    data.train_images[9] = data.train_images[3]


def leaked_test_image(data: Data) -> None:
    data.test_images[4] = data.train_images[11]


@pytest.mark.parametrize(
    ("corrupt", "rule", "failures"),
    [
        (
            int32_pixels,
            "pixels and labels are uint8",
            [("dtype", "train", "images", "int32")],
        ),
        (
            int64_labels,
            "pixels and labels are uint8",
            [("dtype", "test", "labels", "int64")],
        ),
        (
            narrow_images,
            "an image has the shape (28, 28), a label ()",
            [("shape", "test", "images", "(28, 27)")],
        ),
        (
            one_hot_labels,
            "an image has the shape (28, 28), a label ()",
            [("shape", "train", "labels", "(10,)")],
        ),
        (
            missing_image_and_label,
            "files of train have 1400 entries, of test 300",
            [("count", "train", "images", 1399), ("count", "train", "labels", 1399)],
        ),
        (
            missing_label,
            "files of train have 1400 entries, of test 300",
            [("count", "test", "labels", 299)],
        ),
        (unknown_label, "a label is 0 to 9", [("label", "train", 5, 10)]),
        (
            class_labelled_as_another,
            "a class's share of its split is 0.09 to 0.11",
            [
                ("class_share", "test", 8, 0),
                ("class_share", "test", 9, pytest.approx(61 / 300)),
            ],
        ),
        (
            dim_image,
            "an image's brightest pixel is 220 to 255",
            [("brightest", "test", 2, 200)],
        ),
        (
            image_with_a_high_mean,
            "an image's mean pixel is 30 to 80",
            [("mean_pixel", "train", 8, pytest.approx(342 / 784 * 255))],
        ),
        (
            image_with_few_foreground_pixels,
            "an image's share of pixels above 0 is 0.18 to 0.5",
            [("foreground_share", "train", 6, pytest.approx(4 / 28))],
        ),
        (
            repeated_image,
            "no image is twice in its split",
            [("repeats", "train", 9, 3)],
        ),
        (
            leaked_test_image,
            "no test image is in the training set",
            [("leaks", "test", 4, 11)],
        ),
    ],
)
def test_each_corruption_fails_with_its_own_message(
    data, check, corrupt, rule, failures
):
    corrupt(data)
    report = check(data)
    assert not report.passed
    assert {failure.pop("rule") for failure in report.failures} == {rule}
    assert [tuple(failure.values()) for failure in report.failures] == failures
    assert report.failed == {failures[0][0]: len(failures)}


def test_blank_image_also_breaks_the_pixel_ranges(data, check):
    blank_image(data)
    report = check(data)
    assert report.failed == {
        "blank": 1,
        "mean_pixel": 1,
        "foreground_share": 1,
        "brightest": 1,
    }
    assert report.failures[0] == {
        "check": "blank",
        "rule": "no image is blank",
        "split": "train",
        "row": 7,
        "value": True,
    }


def test_all_failures_are_reported_at_once_with_row_and_value(data, check):
    for corrupt in (
        narrow_images,
        missing_image_and_label,
        unknown_label,
        blank_image,
        image_with_a_high_mean,
        repeated_image,
    ):
        corrupt(data)
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
        ("mean_pixel", "train", 7, 0),
        ("mean_pixel", "train", 8, pytest.approx(342 / 784 * 255)),
        ("foreground_share", "train", 7, 0),
        ("brightest", "train", 7, 0),
        ("repeats", "train", 9, 3),
    ]


def test_all_failures_of_a_check_are_counted_but_only_the_first_are_listed(data, check):
    data.train_labels[:1000] = 10
    report = check(data)
    assert report.failed["label"] == 1000
    rows = [case["row"] for case in report.failures if case["check"] == "label"]
    assert rows == list(range(20))


def test_split_with_a_wrong_format_is_not_summarized(data, check):
    one_hot_labels(data)
    assert list(check(data).splits) == ["test"]


def test_failure_message_has_counts_and_the_first_failure(data, check):
    image_with_a_high_mean(data)
    repeated_image(data)
    assert failure_message(check(data)) == (
        "data/raw breaks its dataset card; failures by check: "
        "mean_pixel 1, repeats 1; the first: an image's mean pixel is 30 to 80, but in "
        "split train, row 8 `mean_pixel` is 111.237; see reports/validation.json."
    )


@pytest.fixture
def project(
    raw: Path,
    section: dict,
    card: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The project with the small data set, as the working directory."""
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
def test_step_writes_the_same_report_each_time(data, check, capsys):
    main()
    first = REPORT.read_bytes()
    main()
    assert REPORT.read_bytes() == first
    assert json.loads(first) == check(data).__dict__
    assert capsys.readouterr().out.startswith("train 1400, test 300; every image")


def test_step_writes_its_report_before_it_fails(project):
    path = project / "data" / "raw" / "train-labels-idx1-ubyte"
    content = bytearray(path.read_bytes())
    content[8 + 5] = 10  # after the header of 8 bytes
    path.write_bytes(content)
    with pytest.raises(BadInput, match="in split train, row 5 `label` is 10; see"):
        main()
    report = json.loads(REPORT.read_bytes())
    assert not report["passed"]
    assert report["failed"] == {"label": 1}
    assert report["failures"][0]["value"] == 10
