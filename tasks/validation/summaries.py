"""Three tables that describe the raw data, small enough to be checked by pandera.

One has a row per file, one a row per image, one a row per class. None has a column per
pixel: NumPy reduces the pixels first, 70,000 images in 0.2 s. The index of a table says
where a value stands, its columns what it is.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.dataset.splits import Pixels, Split

NO_ROW = -1


def of_files(train: Split, test: Split) -> pd.DataFrame:
    """Return one row per file, indexed by `split` and `file`.

    Returns:
        dtype: str, NumPy's name of it.
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
    """Return one row per image with its label, indexed by `split` and `row`.

    A split has rows as far as both its files go, and none if they aren't bytes, its
    images not of `shape` or its labels not of shape (); `of_files` shows either.

    Returns:
        label: uint8.
        blank: bool, all pixels are alike.
        mean_ink: float64, the mean pixel, of 255.
        lit_share: float64, the share of the pixels that are above 0.
        brightest: uint8, the largest pixel.
        repeats: int64, the first row of this split with the same pixels if that is
            another one, else -1.
        leaks: int64, for a test image the first row of the training images with the
            same pixels; -1 if there is none, and for training images.
    """
    train, test = _paired(train, shape), _paired(test, shape)
    tables = {
        "train": _describe(train, {}),
        "test": _describe(test, _first_rows(train.images)),
    }
    return pd.concat(tables, names=["split", "row"])


def of_classes(images: pd.DataFrame, n_classes: int) -> pd.DataFrame:
    """Return one row per class, indexed by `split` and `class`, from `of_images`.

    A split without images has no rows; labels of no class are in no row's count.

    Returns:
        count: int64, the number of images.
        class_share: float64, that number's share of all images in the split.
    """
    labels = images["label"].groupby("split", sort=False)
    every = pd.MultiIndex.from_product(
        [images.index.unique("split"), range(n_classes)], names=["split", "class"]
    )
    counts = labels.value_counts().reindex(every, fill_value=0)
    shares = counts.div(labels.size(), level="split")
    return pd.DataFrame({"count": counts, "class_share": shares})


def _paired(split: Split, shape: tuple[int, int]) -> Split:
    """Return the images that have a label; none if the arrays are of another kind."""
    images, labels = split
    in_bytes = images.dtype == labels.dtype == np.uint8
    if not in_bytes or images.shape[1:] != shape or labels.ndim != 1:
        return Split(np.empty((0, *shape), np.uint8), np.empty(0, np.uint8))
    pairs = min(len(images), len(labels))
    return Split(images[:pairs], labels[:pairs])


def _describe(split: Split, training_rows: dict[bytes, int]) -> pd.DataFrame:
    """Return the rows of `of_images` for one split."""
    images, labels = split
    pixels = images.reshape(len(images), images.shape[1] * images.shape[2])
    brightest = pixels.max(axis=1)
    first = _rows_alike(images, _first_rows(images))
    return pd.DataFrame(
        {
            "label": labels,
            "blank": brightest == pixels.min(axis=1),
            "mean_ink": pixels.mean(axis=1),
            "lit_share": np.count_nonzero(pixels, axis=1) / pixels.shape[1],
            "brightest": brightest,
            "repeats": np.where(first < np.arange(len(images)), first, NO_ROW),
            "leaks": _rows_alike(images, training_rows),
        }
    )


def _first_rows(images: Pixels) -> dict[bytes, int]:
    """Return the first row of each content; `np.unique` takes several times as long."""
    rows: dict[bytes, int] = {}
    for row, image in enumerate(images):
        rows.setdefault(image.tobytes(), row)
    return rows


def _rows_alike(images: Pixels, rows: dict[bytes, int]) -> npt.NDArray[np.int64]:
    """Return for each image the row of the same content in `rows`, or `NO_ROW`."""
    alike = [rows.get(image.tobytes(), NO_ROW) for image in images]
    return np.array(alike, dtype=np.int64)
