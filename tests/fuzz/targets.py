"""Fuzz targets: each reader of foreign files must read or refuse any bytes.

A target takes bytes and returns; any exception is a finding. A reader refuses bytes by
BadInput with one printable line of limited length.
"""

import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.baseline import Baseline
from tasks.dataset import splits
from tasks.dataset.spec import DatasetSpec
from tasks.download import Download
from tasks.evaluate import Evaluate
from tasks.modeling import model_file
from tasks.normalize import Normalize
from tasks.rawdata import idx
from tasks.rawdata.dataset_card import ReportedResults
from tasks.runtime import params
from tasks.runtime.params import MAX_SENTENCE, BadInput, Settings
from tasks.sources import archives, fetch, lesson_pickle
from tasks.training.settings import Train
from tasks.validate import Validate

SECTIONS: dict[str, type[Settings]] = {
    "images": DatasetSpec,
    "evaluate": Evaluate,
    "report": ReportedResults,
    "download": Download,
    "validate": Validate,
    "normalize": Normalize,
    "baseline": Baseline,
    "train": Train,
}
IMAGES = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
# In memory if possible: a reader is called a million times.
PLACE = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=PLACE))


def remove_folder() -> None:
    shutil.rmtree(folder, ignore_errors=True)


def written(name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refused(error: BadInput) -> None:
    sentence = str(error)
    assert sentence.isprintable(), sentence
    assert 0 < len(sentence) < MAX_SENTENCE + 100, sentence


def read_idx(content: bytes) -> None:
    path = written("values", content)
    try:
        values = idx.parse(content, "values")
    except BadInput as error:
        refused(error)
        with pytest.raises(BadInput):
            idx.read(path)
    else:
        assert idx.to_bytes(values) == content
        np.testing.assert_array_equal(idx.read(path), values, strict=True)


def read_pickle(content: bytes) -> None:
    try:
        arrays = lesson_pickle.read(content, "pickle", shape=(2, 2))
    except BadInput as error:
        return refused(error)
    assert tuple(arrays) == idx.FILES
    for name, values in arrays.items():
        assert idx.parse(idx.to_bytes(values), name).shape == values.shape
    return None


def read_model(content: bytes) -> None:
    path = written("model.safetensors", content)
    try:
        model = model_file.load(path)
    except BadInput as error:
        return refused(error)
    if model.description.form.shape == IMAGES.shape[1:]:
        logs = model.log_probabilities(IMAGES)
        assert np.isfinite(logs).all()
    model_file.save(model, folder / "again.safetensors")
    again = model_file.load(folder / "again.safetensors")
    assert again.description == model.description
    return None


def read_params(content: bytes) -> None:
    path = written("params.yaml", content)
    named = [name for name in SECTIONS if name.encode() in content]
    for name in named or ["train"]:
        section = SECTIONS[name]
        try:
            values = params.load(name, section, path)
        except BadInput as error:
            refused(error)
        else:
            again = section.model_validate(values.model_dump())
            assert again == values
            repr(values)


def read_npy(content: bytes) -> None:
    path = written("train-images.npy", content)
    whole = b"".join([splits_of(np.zeros(2, np.uint8)), b""])
    written("train-labels.npy", whole)
    try:
        split = splits.load(folder, "train")
    except BadInput as error:
        return refused(error)
    assert path.stat().st_size == splits.HEADER_BYTES + split.images.size
    assert split.images.shape[0] == len(split.labels)
    split.images.sum()
    return None


def splits_of(values: np.ndarray) -> bytes:
    path = folder / "written.npy"
    np.save(path, values)
    return path.read_bytes()


def read_facts(content: bytes) -> None:
    written("facts.json", content)
    try:
        facts = splits.load_facts(folder)
    except BadInput as error:
        return refused(error)
    assert np.isfinite(facts.scale.standardize(IMAGES)).all()
    assert 2 <= len(set(facts.classes)) == len(facts.classes)
    return None


WANTED = frozenset({"package/data/a", "package/data/b"})


def read_archive(content: bytes) -> None:
    """Read bytes as a tar archive and as a gzip file."""
    try:
        found = archives.members(content, WANTED, "archive")
    except BadInput as error:
        refused(error)
    else:
        assert found.keys() <= WANTED
        assert sum(map(len, found.values())) <= 2 * len(content)
    try:
        plain = archives.gunzip(content, 10_000, "gzip")
    except BadInput as error:
        return refused(error)
    assert len(plain) <= 10_000
    assert plain == gzip.decompress(content)
    return None


DIGEST = hashlib.sha256(b"right").hexdigest()


def read_download(content: bytes) -> None:
    """Verify bytes that a mirror serves as a file of the data set."""
    try:
        assert fetch.verify(content, "https://host/file.gz", DIGEST, 10_000) == b"right"
    except BadInput as error:
        refused(error)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "idx": read_idx,
    "pickle": read_pickle,
    "model": read_model,
    "params": read_params,
    "npy": read_npy,
    "facts": read_facts,
    "archive": read_archive,
    "download": read_download,
}
