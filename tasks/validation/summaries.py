"""Summarize the raw data in three tables, small enough for pandera.

One table has a row per file, one a row per image, one a row per class. No table has a
column per pixel: NumPy reduces the pixels first, 70,000 images in 0.2 s. The index
locates a value; the columns hold it.
"""

import numpy as np
import pandas as pd

from tasks.dataset.splits import Pixels, Split

NO_MATCH = -1  # in the columns `repeats` and `leaks`


def of_files(train: Split, test: Split) -> pd.DataFrame:
    """Return one row per file, indexed by `split` and `file`.

    Always has four rows: images and labels of train, then of test.

    Returns:
        dtype: str, the name of the NumPy dtype.
        count: int, the number of entries.
        shape: str, the shape of one entry: `()` for a label.
    """
    rows = {
        (split, file): {
            "dtype": str(values.dtype),
            "count": values.shape[0] if values.ndim else 0,
            "shape": str(values.shape[1:]),
        }
        for split, arrays in (("train", train), ("test", test))
        for file, values in arrays._asdict().items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["split", "file"])


def of_images(train: Split, test: Split, shape: tuple[int, int]) -> pd.DataFrame:
    """Return one row per labelled image, indexed by `split` and `row`.

    A split has no rows if its arrays are not uint8, its images do not have `shape` or
    its labels are not scalars; `of_files` shows each of these faults.

    Returns:
        label: uint8.
        blank: bool, whether all pixels are equal.
        mean_pixel: float64, of 255.
        foreground_share: float64, the share of the pixels that are above 0.
        brightest: uint8, the largest pixel.
        repeats: int64, the first row of this split with the same pixels if that is an
            earlier row, else `NO_MATCH`.
        leaks: int64, the first training row with the same pixels as a test image, else
            `NO_MATCH`; always `NO_MATCH` for training images.
    """
    train, test = _readable(train, shape), _readable(test, shape)
    tables = {
        "train": _describe(train, training_rows={}),
        "test": _describe(test, training_rows=_first_rows(train.images)),
    }
    return pd.concat(tables, names=["split", "row"])


def of_classes(images: pd.DataFrame, n_classes: int) -> pd.DataFrame:
    """Return one row per class, indexed by `split` and `class`, from `of_images`.

    A split without images has no rows. Unknown labels are in no row's count.

    Returns:
        count: int64, the number of images.
        class_share: float64, `count` as a share of all images in the split.
    """
    labels = images["label"].groupby("split", sort=False)
    every = pd.MultiIndex.from_product(
        [images.index.unique("split"), range(n_classes)], names=["split", "class"]
    )
    counts = labels.value_counts().reindex(every, fill_value=0)
    shares = counts.div(labels.size(), level="split")
    return pd.DataFrame({"count": counts, "class_share": shares})


def _readable(split: Split, shape: tuple[int, int]) -> Split:
    """Return the images that have a label; none if the arrays have a wrong format."""
    images, labels = split
    is_bytes = images.dtype == labels.dtype == np.uint8
    if not is_bytes or images.shape[1:] != shape or labels.ndim != 1:
        return Split(np.empty((0, *shape), np.uint8), np.empty(0, np.uint8))
    count = min(len(images), len(labels))
    return Split(images[:count], labels[:count])


def _describe(split: Split, training_rows: dict[bytes, int]) -> pd.DataFrame:
    """Return the rows of `of_images` for one split."""
    images, labels = split
    pixels = images.reshape(len(images), images.shape[1] * images.shape[2])
    brightest = pixels.max(axis=1)
    own_rows = _first_rows(images)
    first = np.array([own_rows[image.tobytes()] for image in images], np.int64)
    leaks = [training_rows.get(image.tobytes(), NO_MATCH) for image in images]
    return pd.DataFrame(
        {
            "label": labels,
            "blank": brightest == pixels.min(axis=1),
            "mean_pixel": pixels.mean(axis=1),
            "foreground_share": np.count_nonzero(pixels, axis=1) / pixels.shape[1],
            "brightest": brightest,
            "repeats": np.where(first < np.arange(len(images)), first, NO_MATCH),
            "leaks": np.array(leaks, np.int64),
        }
    )


def _first_rows(images: Pixels) -> dict[bytes, int]:
    """Map each content to its first row; `np.unique` takes several times as long."""
    return {images[row].tobytes(): row for row in reversed(range(len(images)))}
