"""Fixtures: a small data set (`samples`), parameters, and the record of a champion."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from samples import KIND, ROOT, TEST, TRAIN, VALID, idx_bytes
from sklearn.datasets import load_digits

from tasks.dataset.splits import Facts, Split
from tasks.evaluation.metrics_file import SplitMetrics
from tasks.normalize import Normalize, normalize
from tasks.registry.champions import Comparison, Record, SplitSizes


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


@pytest.fixture
def card() -> dict:
    """The real dataset card of MNIST, to be made small by a test."""
    return yaml.safe_load((ROOT / "datasets" / "mnist.yaml").read_text())


@pytest.fixture(scope="session")
def parts(digits: dict[str, np.ndarray]) -> tuple[dict, Facts]:
    """The three splits of the small data set, and what is known of it."""
    training, test = (
        Split(digits[f"{part}-images-idx3-ubyte"], digits[f"{part}-labels-idx1-ubyte"])
        for part in ("train", "t10k")
    )
    return normalize(training, test, KIND, Normalize(validation=VALID))


@pytest.fixture
def record() -> Record:
    """The record of a champion."""
    return Record(
        model="scratch_adam",
        md5="9" * 32,
        promoted="2026-11-23T02:00:00+00:00",
        replaces="8" * 32,
        compared=Comparison(
            accuracy=0.917,
            gained=40,
            lost=20,
            p_value=0.0067,
            class_drop=0.01,
            dropped="5",
        ),
        revision="0123456789ab",
        data={"data/raw": "d0193be1.dir"},
        parameters={"update": "adam", "learning_rate": 0.001},
        images=SplitSizes(train=50_000, valid=10_000, test=10_000),
        valid=SplitMetrics(
            accuracy=0.919,
            accuracy_low=0.91349,
            accuracy_high=0.924188,
            rmse=1.19,
            mae=0.29,
            log_loss=0.28534,
            ece=0.031,
        ),
        test=SplitMetrics(
            accuracy=0.916,
            accuracy_low=0.91039,
            accuracy_high=0.92129,
            rmse=1.21,
            mae=0.3,
            log_loss=0.29,
            ece=0.03,
        ),
        recall={"0": 0.97, "5": 0.85, "9": 0.9},
    )
