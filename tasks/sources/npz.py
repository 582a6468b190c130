"""Read images and labels from an `.npz` file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
import numpy.typing as npt

from tasks.dataset.splits import SplitName
from tasks.rawdata import npy
from tasks.rawdata.npy import InvalidArray
from tasks.runtime.params import BadInput

# Limit of one uncompressed array. EMNIST, the largest relative of MNIST, has 640 MB.
MAX_BYTES = 2**31
# Names of images and labels, lowercase, as used by Keras, MedMNIST, scikit-learn and
# others: for each split, or for all images.
SPLIT_NAMES = (("x_{}", "y_{}"), ("{}_images", "{}_labels"))
SHORT: dict[SplitName, str] = {"train": "train", "valid": "val", "test": "test"}
WHOLE_NAMES = (("images", "labels"), ("x", "y"), ("data", "target"))

Array = npt.NDArray[Any]
ArrayNames = dict[SplitName, tuple[str, str]]  # of images and of labels


def infer_arrays(path: Path) -> ArrayNames:
    """Infer from the arrays' names which are images and labels, by split."""
    with _opened(path) as (_, arrays):
        names = {name.lower(): name for name in arrays}
    known: list[ArrayNames] = [
        {split: (x.format(short), y.format(short)) for split, short in SHORT.items()}
        for x, y in SPLIT_NAMES
    ]
    known += [{"train": pair} for pair in WHOLE_NAMES]
    for pairs in known:
        if pairs["train"][0] in names and pairs["train"][1] in names:
            return {
                split: (names[x], names[y])
                for split, (x, y) in pairs.items()
                if x in names and y in names
            }
    recognized = ", ".join(" and ".join(pairs["train"]) for pairs in known)
    raise BadInput(
        f"{path} holds {', '.join(names.values()) or 'no arrays'}; only these names "
        f"are recognized as images and labels: {recognized}. Rename the arrays."
    )


def read(path: Path, names: ArrayNames) -> dict[SplitName, tuple[Array, Array]]:
    """Read images and labels; raise BadInput unless all are numbers or text."""
    found = {}
    with _opened(path) as (archive, arrays):
        wanted = [name for pair in names.values() for name in pair]
        if missing := [name for name in wanted if name not in arrays]:
            raise BadInput(f"{path} has no array {', '.join(missing)}.")
        for name in wanted:
            try:
                found[name] = _array(archive, arrays[name])
            except InvalidArray as fault:
                raise BadInput(f"{name} of {path} {fault}.") from None
    return {split: (found[x], found[y]) for split, (x, y) in names.items()}


@contextmanager
def _opened(path: Path) -> Iterator[tuple[ZipFile, dict[str, ZipInfo]]]:
    """Open the archive; yield it with its arrays by name."""
    try:
        with path.open("rb") as file, npy.refusing_damage():
            yield npy.open_npz(file)
    except FileNotFoundError:
        raise BadInput(f"{path} is missing.") from None
    except InvalidArray as fault:
        raise BadInput(f"{path} is not a complete .npz file: it {fault}.") from None


def _array(archive: ZipFile, member: ZipInfo) -> Array:
    """Read one array; no more is decompressed than the directory declares."""
    if member.file_size > MAX_BYTES:
        raise InvalidArray(f"unpacks to more than {MAX_BYTES:,} bytes")
    with archive.open(member) as file:
        dtype, is_fortran, shape = npy.read_header(file, member.file_size)
        values = np.frombuffer(file.read(member.file_size), dtype)
    return values.reshape(shape, order="F" if is_fortran else "C")
