"""The summary tables of images with 2x2 pixels."""

import numpy as np
import pytest

from tasks.dataset.splits import Split
from tasks.validation import summaries


def small(*images: list[int], labels: list[int] | None = None) -> Split:
    pixels = np.array(images, dtype=np.uint8).reshape(len(images), 2, 2)
    return Split(pixels, np.array(labels or [0] * len(images), dtype=np.uint8))


TRAIN = small([0, 0, 0, 200], [9, 9, 9, 9], [0, 0, 0, 200], labels=[1, 0, 1])
TEST = small([0, 4, 0, 0], [9, 9, 9, 9], labels=[1, 7])


def test_file_table_has_dtype_count_and_shape():
    table = summaries.of_files(TRAIN, Split(TEST.images.astype(float), np.uint8(3)))
    assert table.reset_index().to_numpy().tolist() == [
        ["train", "images", "uint8", 3, "(2, 2)"],
        ["train", "labels", "uint8", 3, "()"],
        ["test", "images", "float64", 2, "(2, 2)"],
        ["test", "labels", "uint8", 0, "()"],
    ]


def test_image_table_has_label_pixel_statistics_and_duplicates():
    table = summaries.of_images(TRAIN, TEST, shape=(2, 2))
    assert table.reset_index().to_dict("list") == {
        "split": ["train", "train", "train", "test", "test"],
        "row": [0, 1, 2, 0, 1],
        "label": [1, 0, 1, 1, 7],
        "blank": [False, True, False, False, True],
        "mean_pixel": [50.0, 9.0, 50.0, 1.0, 9.0],
        "foreground_share": [0.25, 1.0, 0.25, 0.25, 1.0],
        "brightest": [200, 9, 200, 4, 9],
        "repeats": [-1, -1, 0, -1, -1],
        "leaks": [-1, -1, -1, -1, 1],
    }


def test_class_table_has_count_and_share_of_the_split():
    images = summaries.of_images(TRAIN, TEST, shape=(2, 2))
    table = summaries.of_classes(images, n_classes=3)
    assert table.reset_index().to_numpy().tolist() == [
        ["train", 0, 1, pytest.approx(1 / 3)],
        ["train", 1, 2, pytest.approx(2 / 3)],
        ["train", 2, 0, 0],
        ["test", 0, 0, 0],
        ["test", 1, 1, 0.5],  # the other image has an unknown label, 7
        ["test", 2, 0, 0],
    ]


def test_images_without_a_label_have_no_row():
    train = Split(TRAIN.images, TRAIN.labels[:2])
    test = Split(TEST.images[:1], TEST.labels)
    table = summaries.of_images(train, test, shape=(2, 2))
    assert table.index.tolist() == [("train", 0), ("train", 1), ("test", 0)]


@pytest.mark.parametrize(
    "malformed",
    [
        Split(TRAIN.images.astype(np.int32), TRAIN.labels),
        Split(TRAIN.images, TRAIN.labels.astype(np.int64)),
        Split(TRAIN.images[:, :1], TRAIN.labels),
        Split(TRAIN.images.reshape(3, 4), TRAIN.labels),
        Split(TRAIN.images, TRAIN.labels[:, None]),
        Split(np.uint8(0), np.uint8(0)),
        Split(TRAIN.images[:0], TRAIN.labels[:0]),
    ],
    ids=["pixels", "labels", "height", "flat", "column", "scalar", "empty"],
)
def test_split_with_a_wrong_format_has_no_rows(malformed: Split):
    images = summaries.of_images(malformed, TEST, shape=(2, 2))
    assert images.index.unique("split").tolist() == ["test"]
    assert len(summaries.of_classes(images, n_classes=3)) == 3

    nothing = summaries.of_images(malformed, malformed, shape=(2, 2))
    assert nothing.empty
    assert nothing.dtypes.equals(images.dtypes)
    assert summaries.of_classes(nothing, n_classes=3).empty
