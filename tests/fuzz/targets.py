"""Fuzz targets: each reader of foreign files must read any bytes, or refuse them.

A target takes bytes and returns; any exception is a finding. Refusing means raising
BadInput with one printable line of bounded length.
"""

import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from tasks.baseline import Baseline
from tasks.dataset import splits
from tasks.dataset.spec import DatasetSpec
from tasks.download import Download
from tasks.modeling import model_file
from tasks.modeling.calibration import ErrorLimit
from tasks.normalize import Normalize
from tasks.rawdata import idx
from tasks.rawdata.dataset_card import ReportedResults
from tasks.runtime import params
from tasks.runtime.params import MAX_SENTENCE, BadInput, Settings
from tasks.sources import archives, fetch, lesson_pickle
from tasks.training.settings import Train
from tasks.validation.schemas import DataLimits

SECTIONS: dict[str, type[Settings]] = {
    "images": DatasetSpec,
    "evaluate": ErrorLimit,
    "report": ReportedResults,
    "download": Download,
    "validate": DataLimits,
    "normalize": Normalize,
    "baseline": Baseline,
    "train": Train,
}
IMAGES = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
T = TypeVar("T")
# In memory if possible: a reader is called a million times.
MEMORY_DISK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=MEMORY_DISK))
MEMBERS = frozenset({"package/data/a", "package/data/b"})
DIGEST = hashlib.sha256(b"right").hexdigest()


def remove_folder() -> None:
    shutil.rmtree(folder, ignore_errors=True)


def write(name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def read_or_refuse(read: Callable[..., T], *args: object, **kwargs: object) -> T | None:
    """Return what `read` returns; None if it refuses the input properly."""
    try:
        return read(*args, **kwargs)
    except BadInput as error:
        message = str(error)
        assert message.isprintable(), message
        assert 0 < len(message) < MAX_SENTENCE + 100, message
        return None


def read_idx(content: bytes) -> None:
    path = write("values", content)
    values = read_or_refuse(idx.parse, content, "values")
    if values is None:
        with pytest.raises(BadInput):
            idx.read(path)
        return
    assert idx.to_bytes(values) == content
    np.testing.assert_array_equal(idx.read(path), values, strict=True)


def read_pickle(content: bytes) -> None:
    arrays = read_or_refuse(lesson_pickle.read, content, "pickle", shape=(2, 2))
    if arrays is None:
        return
    assert tuple(arrays) == idx.FILES
    for name, values in arrays.items():
        assert idx.parse(idx.to_bytes(values), name).shape == values.shape


def read_model(content: bytes) -> None:
    model = read_or_refuse(model_file.load, write("model.safetensors", content))
    if model is None:
        return
    if model.description.form.shape == IMAGES.shape[1:]:
        assert np.isfinite(model.log_probabilities(IMAGES)).all()
    copy = folder / "copy.safetensors"
    model_file.save(model, copy)
    assert model_file.load(copy).description == model.description


def read_params(content: bytes) -> None:
    path = write("params.yaml", content)
    named = [name for name in SECTIONS if name.encode() in content]
    for name in named or ["train"]:
        values = read_or_refuse(params.load, name, SECTIONS[name], path)
        if values is not None:
            assert SECTIONS[name].model_validate(values.model_dump()) == values
            repr(values)


def read_splits(content: bytes) -> None:
    write(splits.FILE, content)
    facts = read_or_refuse(splits.load_facts, folder)
    if facts is not None:
        assert np.isfinite(facts.scale.standardize(IMAGES)).all()
        assert 2 <= len(set(facts.classes)) == len(facts.classes)
    split = read_or_refuse(splits.load, folder, "train")
    if split is not None:
        assert split.images.size + len(split.labels) < len(content)
        assert len(split.images) == len(split.labels)
        split.images.sum()


def read_archive(content: bytes) -> None:
    """Read the bytes as a tar archive, and as a gzip file."""
    found = read_or_refuse(archives.members, content, MEMBERS, "archive")
    if found is not None:
        assert found.keys() <= MEMBERS
        assert sum(map(len, found.values())) <= 2 * len(content)
    plain = read_or_refuse(archives.gunzip, content, 10_000, "gzip")
    if plain is not None:
        assert len(plain) <= 10_000
        assert plain == gzip.decompress(content)


def read_download(content: bytes) -> None:
    """Verify bytes that a mirror serves as a file of the data set."""
    url = "https://host/file.gz"
    plain = read_or_refuse(fetch.verify, content, url, DIGEST, 10_000)
    assert plain in {None, b"right"}


TARGETS: dict[str, Callable[[bytes], None]] = {
    "idx": read_idx,
    "pickle": read_pickle,
    "model": read_model,
    "params": read_params,
    "splits": read_splits,
    "archive": read_archive,
    "download": read_download,
}
