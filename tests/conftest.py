"""Fixtures: a small data set and a small checkout of the project.

The data set is scikit-learn's digits, enlarged to 28x28, in place of MNIST. The Prefect
server and the small DVC project come from the tests of prefect-dvc.
"""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from servers import (
    alive,
    answers,
    prefect_server,
    server_environment,
    serving_prefect,
    start_server,
    stop_server,
    wait_until,
)
from sklearn.datasets import load_digits
from small_project import Project, built, processes, project

from tasks.dataset.spec import DatasetSpec, ImageSpec
from tasks.dataset.splits import Facts, Scale, Split
from tasks.evaluation.metrics_file import SplitMetrics
from tasks.normalize import Normalize, normalize
from tasks.registry.champions import Comparison, Record, SplitSizes

__all__ = [
    "Project",
    "alive",
    "answers",
    "built",
    "prefect_server",
    "processes",
    "project",
    "server_environment",
    "serving_prefect",
    "start_server",
    "stop_server",
    "wait_until",
]

ROOT = Path(__file__).parent.parent

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a shell starts in the background is deaf to Ctrl-C, and all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
TRAIN, VALID, TEST = 1100, 300, 300
# What MNIST's images are, and the small data set's.
KIND = DatasetSpec(
    title="small digits",
    form=ImageSpec(shape=(28, 28), brightest=255, box=20),
    classes=tuple("0123456789"),
)
# What the small data set's values are; the rest is as in MNIST's dataset card.
RANGES = {
    "counts": {"train": TRAIN + VALID, "test": TEST},
    "class_share": [0.09, 0.11],
    "mean_pixel": [30, 80],
    "foreground_share": [0.18, 0.5],
    "brightest": 220,
}


def facts(shape: tuple[int, int], classes: int, **scale: float) -> Facts:
    """What there is to know of made-up images, whose classes are called 0, 1 ..."""
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
    """What is known of a champion."""
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


@pytest.fixture(scope="session")
def small(tmp_path_factory, digits) -> Path:
    """The project itself, its data made small; nothing of it was run."""
    # It copies the project as it stands, with what this file knows of the data.
    from checkouts import make  # noqa: PLC0415

    return make(tmp_path_factory.mktemp("small"), digits)


@pytest.fixture(scope="session")
def pipeline_run(small, prefect_server, tmp_path_factory) -> Path:
    """A small checkout with two variants whose pipeline has run; don't change it."""
    from checkouts import make_pipeline_run  # noqa: PLC0415  # as above

    return make_pipeline_run(small, tmp_path_factory.mktemp("run"), prefect_server)


@pytest.fixture
def experimenting(pipeline_run, tmp_path) -> Path:
    """A copy of that checkout, in which a test runs experiments."""
    target = tmp_path / "project"
    shutil.copytree(pipeline_run, target, symlinks=True)
    return target
