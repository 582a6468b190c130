"""scikit-learn's digits in 8x8 pixels: enough images to train on in milliseconds."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from tasks.dataset.spec import DatasetSpec, ImageSpec
from tasks.dataset.splits import Facts, Split
from tasks.normalize import Normalize, normalize

SPEC = DatasetSpec(
    title="tiny digits",
    form=ImageSpec(shape=(8, 8), brightest=255, box=None),
    classes=tuple("0123456789"),
)
TRAIN, VALID, TEST = 300, 100, 100


@cache
def digits() -> tuple[dict, Facts]:
    """The three splits, and the facts about them."""
    bunch = load_digits()
    images = np.clip(bunch.images * 16, 0, 255).astype(np.uint8)
    labels = bunch.target.astype(np.uint8)
    half = TRAIN + VALID
    return normalize(
        Split(images[:half], labels[:half]),
        Split(images[half : half + TEST], labels[half : half + TEST]),
        SPEC,
        Normalize(validation=VALID),
    )
