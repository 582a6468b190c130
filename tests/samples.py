"""A small data set in the place of MNIST: scikit-learn's digits, enlarged to 28x28."""

import gzip
from functools import partial
from pathlib import Path

import numpy as np

from tasks.dataset.spec import DatasetSpec, ImageSpec
from tasks.dataset.splits import Facts, Scale

ROOT = Path(__file__).parent.parent
# Without the time, so that the names of tests with such data are the same each time.
compress = partial(gzip.compress, mtime=0)
TRAIN, VALID, TEST = 1100, 300, 300
# What MNIST's images are, and the small data set's.
KIND = DatasetSpec(
    title="small digits",
    form=ImageSpec(shape=(28, 28), brightest=255, box=20),
    classes=tuple("0123456789"),
)
# The dataset card of the small data set, where it differs from MNIST's.
RANGES = {
    "counts": {"train": TRAIN + VALID, "test": TEST},
    "class_share": [0.09, 0.11],
    "mean_pixel": [30, 80],
    "foreground_share": [0.18, 0.5],
    "brightest": 220,
}


def facts(shape: tuple[int, int], classes: int, **scale: float) -> Facts:
    """Return the facts about made-up images with the classes 0, 1, ..."""
    return Facts(
        title="made up",
        form=ImageSpec(shape=shape, brightest=255, box=None),
        classes=tuple(map(str, range(classes))),
        scale=Scale(**{"divisor": 256, "mean": 0.5, "std": 0.25, **scale}),
    )


def idx_bytes(values: np.ndarray) -> bytes:
    """An unsigned-byte array as an IDX file, written from the format's description."""
    header = bytes([0, 0, 0x08, values.ndim])
    sizes = np.array(values.shape, dtype=">u4").tobytes()
    return header + sizes + np.ascontiguousarray(values, dtype=np.uint8).tobytes()
