"""A small data set that stands in for MNIST: scikit-learn's digits, made 28x28."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits

from tasks.normalize import Normalize, normalize
from tasks.splits import Scale, Split

ROOT = Path(__file__).parent.parent
TRAIN, VALID, TEST = 1100, 300, 300


def idx_bytes(values: np.ndarray) -> bytes:
    """An unsigned-byte array as an IDX file, written from the format's description."""
    header = bytes([0, 0, 0x08, values.ndim])
    sizes = np.array(values.shape, dtype=">u4").tobytes()
    return header + sizes + np.ascontiguousarray(values, dtype=np.uint8).tobytes()


@pytest.fixture(scope="session")
def digits() -> dict[str, np.ndarray]:
    """The four arrays of the raw data, by file name: 1,400 train, 300 test images."""
    bunch = load_digits()
    small = np.clip(bunch.images * 16, 0, 255).astype(np.uint8)
    images = np.pad(small.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))
    labels = bunch.target.astype(np.uint8)
    split, end = TRAIN + VALID, TRAIN + VALID + TEST
    return {
        "train-images-idx3-ubyte": images[:split],
        "train-labels-idx1-ubyte": labels[:split],
        "t10k-images-idx3-ubyte": images[split:end],
        "t10k-labels-idx1-ubyte": labels[split:end],
    }


@pytest.fixture
def raw(tmp_path: Path, digits: dict[str, np.ndarray]) -> Path:
    """A folder with the four raw files of the small data set."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, values in digits.items():
        (folder / name).write_bytes(idx_bytes(values))
    return folder


@pytest.fixture
def params() -> dict:
    """The real params.yaml, to be made small by a test."""
    return yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.fixture(scope="session")
def parts(digits: dict[str, np.ndarray]) -> tuple[dict, Scale]:
    """The three splits of the small data set, and the scale of its pixels."""
    training, test = (
        Split(digits[f"{part}-images-idx3-ubyte"], digits[f"{part}-labels-idx1-ubyte"])
        for part in ("train", "t10k")
    )
    return normalize(training, test, Normalize(validation=VALID))
